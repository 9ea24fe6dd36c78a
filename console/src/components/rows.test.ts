import { expect, it } from 'vitest'
import { visibleRows } from './rows'

it('shows what is in sight, and space for all the rest', () => {
  for (const [count, scrolled] of [[0, 0], [3, 0], [10_000, 0], [10_000, 123_456], [10_000, 399_000], [10_000, 9e9], [5, -40]] as const) {
    const { from, to, before, after } = visibleRows(count, scrolled, 40, 14)
    expect(before + (to - from) * 40 + after).toBe(count * 40)
    expect(from >= 0 && to <= count && to - from <= 14 + 16).toBe(true)
    if (count > 0) expect(to).toBeGreaterThan(from)
  }
  const middle = visibleRows(10_000, 4000, 40, 14)
  expect(middle.from <= 100 && middle.to >= 114).toBe(true)
})
