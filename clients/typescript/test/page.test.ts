/** What the service's page runs is this client as it is, and uPlot as it was released. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const WEB = join(ROOT, "../../service/web");

/** Name to content of a folder's files. */
function contents(folder: string, names: string[] = readdirSync(folder)): Record<string, string> {
  return Object.fromEntries(
    names.sort().map((name) => [name, readFileSync(join(folder, name), "utf-8")]),
  );
}

test("the page's client is compiled from these sources (npm run page)", () => {
  const fresh = mkdtempSync(join(tmpdir(), "glrf-page-"));
  try {
    const tsc = join(ROOT, "node_modules/.bin/tsc");
    execFileSync(tsc, ["--project", "tsconfig.page.json", "--outDir", fresh], { cwd: ROOT });
    assert.deepEqual(contents(join(WEB, "sdk")), contents(fresh));
  } finally {
    rmSync(fresh, { recursive: true });
  }
});

test("the page's uPlot is the release that package.json names", () => {
  const uplot = join(ROOT, "node_modules/uplot");
  const served = join(WEB, "vendor/uplot");
  const names = ["uPlot.iife.min.js", "uPlot.min.css"];
  assert.deepEqual(contents(served, names), contents(join(uplot, "dist"), names));
  assert.deepEqual(contents(served, ["LICENSE"]), contents(uplot, ["LICENSE"]));
});
