/** Rows above and below those in sight that exist too, so that a quick scroll finds them. */
const SPARE = 8

/** Which rows of a long table exist, and the space in pixels that stands for the others. */
export function visibleRows(
  count: number,
  scrolledPx: number,
  rowPx: number,
  height: number,
): { from: number; to: number; before: number; after: number } {
  const first = Math.floor(Math.max(scrolledPx, 0) / rowPx)
  const from = Math.max(0, Math.min(first, count - height) - SPARE)
  const to = Math.min(count, Math.max(first, 0) + height + SPARE)
  return { from, to, before: from * rowPx, after: (count - Math.max(to, from)) * rowPx }
}
