import { expect, it } from 'vitest'
import { extent, share, ticks } from './scale'

it('marks round numbers around what is shown', () => {
  expect(ticks(0, 100)).toEqual([0, 25, 50, 75, 100])
  expect(ticks(-0.14, 0.49)).toEqual([-0.2, 0, 0.2, 0.4, 0.6])
  expect(ticks(0, 128_277)).toEqual([0, 50_000, 100_000, 150_000])
  expect(ticks(0, 0)).toEqual([0, 0.25])
  expect(ticks(0, Number.NaN)).toEqual([0, 1])
})

it('knows the extent of what is there', () => {
  expect(extent([3, null, undefined, 7])).toEqual([0, 7])
  expect(extent([-2, 5])).toEqual([-2, 5])
  expect(extent([])).toEqual([0, 0])
})

it('never leaves its bounds', () => {
  expect([share(5, 0, 10), share(-1, 0, 10), share(99, 0, 10), share(1, 1, 1)]).toEqual([0.5, 0, 1, 0])
})
