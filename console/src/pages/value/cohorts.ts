/** How dark a cell is: 0 where nobody came again, then by quarters to 4. */
export function shadeOf(share: number): 0 | 1 | 2 | 3 | 4 {
  if (!(share > 0)) return 0
  return share <= 0.25 ? 1 : share <= 0.5 ? 2 : share <= 0.75 ? 3 : 4
}
