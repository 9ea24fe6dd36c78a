import { expect, it } from 'vitest'
import { SPARE, SPARE_OF_LEAP, visibleRows } from './rows'

it('shows what is in sight, and space for all the rest', () => {
  for (const [count, scrolled] of [[0, 0], [3, 0], [10_000, 0], [10_000, 123_456], [10_000, 399_000], [10_000, 9e9], [5, -40]] as const) {
    for (const spare of [SPARE, SPARE_OF_LEAP]) {
      const { from, to, before, after } = visibleRows(count, scrolled, 40, 14, spare)
      expect(before + (to - from) * 40 + after).toBe(count * 40)
      expect(from >= 0 && to <= count && to - from <= 14 + 2 * spare).toBe(true)
      if (count > 0) expect(to).toBeGreaterThan(from)
    }
  }
  const middle = visibleRows(10_000, 4000, 40, 14)
  expect(middle.from <= 100 && middle.to >= 114).toBe(true)
  // A row that is in sight by its lower half takes one more at the other end.
  const leap = visibleRows(10_000, 4020, 40, 14, SPARE_OF_LEAP)
  expect(leap.from <= 100 && leap.to >= 115).toBe(true)
})
