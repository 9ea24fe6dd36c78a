import { expect, it } from 'vitest'
import { alone, instants, isDated, rangeOf } from './chart'

it('draws as points what no line leads to', () => {
  expect(alone([1, null, 2, null, 3, 4, null, undefined, 0])).toEqual([0, 2, 8])
  expect(alone([])).toEqual([])
  expect(alone([null, null])).toEqual([])
})

it('writes instants with as much as tells them apart', () => {
  const noon = Date.UTC(2026, 10, 27, 12, 0, 5)
  const words = (seconds: number): string => instants(seconds, 'en-US').format(noon)
  expect(words(300)).toMatch(/:05/)
  expect(words(86_400)).not.toMatch(/:05/)
  expect(words(7 * 86_400)).toMatch(/Nov/)
  expect([isDated([0, 300]), isDated([0, 3600]), isDated([])]).toEqual([false, true, false])
})

it('draws one sample over a minute, and more from the first to the last', () => {
  expect(rangeOf([1_780_000_000])).toEqual([1_779_999_970, 1_780_000_030])
  expect([rangeOf([5, 7, 9]), rangeOf([])]).toEqual([[5, 9], [null, null]])
})
