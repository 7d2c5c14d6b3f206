/** What `npm pack` gives of a clean clone is a package that works. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** npm tells those that it runs where it is itself. */
const NPM = process.env["npm_execpath"];

test("a package packed without a build before has code, types and licence", { skip: !NPM }, () => {
  const clone = mkdtempSync(join(tmpdir(), "glrf-pack-"));
  try {
    const left = ["dist", "node_modules"];
    for (const name of readdirSync(ROOT).filter((name) => !left.includes(name))) {
      cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    }
    symlinkSync(join(ROOT, "node_modules"), join(clone, "node_modules"));
    const pack = [NPM!, "pack", "--silent", "--offline"];
    const tarball = execFileSync(process.execPath, pack, { cwd: clone, encoding: "utf-8" });
    execFileSync("tar", ["-xzf", tarball.trim()], { cwd: clone });
    const packed = readdirSync(join(clone, "package"));
    assert.deepEqual(packed.sort(), ["LICENSE", "README.md", "dist", "package.json"]);
    const sources = readdirSync(join(ROOT, "src")).map((name) => name.replace(/\.ts$/, ""));
    const expected = sources.flatMap((name) => [`${name}.d.ts`, `${name}.js`]);
    assert.deepEqual(readdirSync(join(clone, "package/dist")).sort(), expected.sort());
  } finally {
    rmSync(clone, { recursive: true });
  }
});

test("the package's licence is the repository's", () => {
  const licence = (folder: string) => readFileSync(join(folder, "LICENSE"), "utf-8");
  assert.equal(licence(ROOT), licence(join(ROOT, "../..")));
});
