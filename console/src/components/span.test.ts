import { expect, it } from 'vitest'
import { dateOf, daysOf, isWhole, openPeriod, periodBefore, periodOf, secondOf, spanOf, startOf, wordsOf } from './span'

const NOW = Date.UTC(2026, 10, 27, 18, 30)
const of = (text: string) => periodOf(spanOf(new URLSearchParams(text)), NOW)
const second = (month: number, day: number): number => Date.UTC(2026, month - 1, day) / 1000

it('takes whole days that end with the present one', () => {
  expect(startOf('1', NOW)).toBe(second(11, 27))
  expect(of('days=7')).toEqual({ start_time: second(11, 21) })
})

it('falls back to 30 days', () => {
  expect(['7', '12', '', null].map(daysOf)).toEqual(['7', '30', '30', '30'])
  for (const text of ['', 'from=2026-11-01', 'from=2026-02-30&to=2026-03-01', 'from=soon&to=2026-11-01']) {
    expect(spanOf(new URLSearchParams(text))).toEqual({ days: '30' })
  }
})

it('takes named days, the last one included, and leaves what cannot be to the API', () => {
  expect(of('from=2026-11-01&to=2026-11-02')).toEqual({ start_time: second(11, 1), end_time: second(11, 3) })
  expect(of('from=2026-11-09&to=2026-11-02')).toEqual({ start_time: second(11, 9), end_time: second(11, 3) })
  expect([secondOf('2026-11-01'), secondOf('2026-11-31'), dateOf(second(11, 1))]).toEqual([second(11, 1), null, '2026-11-01'])
  expect(wordsOf(new URLSearchParams('from=a&by=tag'))).toEqual({ days: undefined, from: 'a', to: undefined })
})

it('leaves ends open that are not given', () => {
  expect(openPeriod('2026-11-01', '')).toEqual({ start_time: second(11, 1) })
  expect(openPeriod('2026-02-30', '2026-11-01')).toEqual({ end_time: second(11, 2) })
  expect([openPeriod('', 'soon'), openPeriod('2026-11-09', '2026-11-02')]).toEqual([{}, { start_time: second(11, 9), end_time: second(11, 3) }])
})

it('finds as many days before', () => {
  expect(periodBefore(of('days=7'), NOW)).toEqual({ start_time: second(11, 14), end_time: second(11, 21) })
  expect(periodBefore(of('from=2026-11-01&to=2026-11-02'), NOW)).toEqual({ start_time: second(10, 30), end_time: second(11, 1) })
  expect(periodBefore({ start_time: 5, end_time: 20 }, NOW)).toEqual({ start_time: 0, end_time: 5 })
})

it('waits for the whole year', () => {
  expect(['0002-11-01', '0020-11-01', '0202-11-01', '2026-11-01'].map(isWhole)).toEqual([false, false, false, true])
  expect(['', '20265-11-01', '2026-11-01T07:30', '2026-11-01T07:30:15', '0202-11-01T07:30'].map(isWhole)).toEqual([false, false, true, true, false])
})
