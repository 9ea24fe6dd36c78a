import { expect, it } from 'vitest'
import { questionOf, SPANS, spanOf, untilWritten, type PastName } from './spans'

it('takes only spans that there are from the address', () => {
  expect([spanOf(null), spanOf('7d'), spanOf('8d')]).toEqual(['5m', '7d', '5m'])
})

it('asks for a few hundred points, within what is kept', () => {
  for (const name of SPANS.filter((name): name is PastName => name !== '5m')) {
    const { start_time, end_time, step } = questionOf(name, 1_800_000_012_345)
    expect(end_time).toBe(1_800_000_012)
    expect(end_time - start_time).toBeLessThanOrEqual(90 * 86_400)
    expect((end_time - start_time) / step).toBeGreaterThanOrEqual(60)
    expect((end_time - start_time) / step).toBeLessThanOrEqual(360)
  }
})

it('asks again once the minute is written', () => {
  expect([0, 59_000, 60_000].map(untilWritten)).toEqual([62_000, 3_000, 62_000])
})
