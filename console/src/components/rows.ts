/** Rows above and below those in sight that exist too, so that a quick scroll finds them; and of a leap, which finds none of them. */
export const [SPARE, SPARE_OF_LEAP] = [8, 1]

/** Which rows of a long table exist, and the space in pixels that stands for the others. */
export function visibleRows(
  count: number,
  scrolledPx: number,
  rowPx: number,
  height: number,
  spare: number = SPARE,
): { from: number; to: number; before: number; after: number } {
  const first = Math.floor(Math.max(scrolledPx, 0) / rowPx)
  const from = Math.max(0, Math.min(first, count - height) - spare)
  const to = Math.min(count, Math.max(first, 0) + height + spare)
  return { from, to, before: from * rowPx, after: (count - Math.max(to, from)) * rowPx }
}
