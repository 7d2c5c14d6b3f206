/** How long something may take. @module */

/**
 * What `work` gives. Throws an `Error` that says `why` when it takes longer than `ms`, and the
 * signal's reason when that comes first; the work itself goes on, unheard.
 */
export async function within<T>(
  ms: number,
  why: string,
  work: Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(why)), ms);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });
  try {
    return await Promise.race([end, work]);
  } finally {
    clearTimeout(timer);
  }
}
