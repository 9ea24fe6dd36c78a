import { expect, it } from 'vitest'
import type { ComparedChange } from '$lib/api/types'
import { askedOf, bridge, datesOf, daysToCompare, timeOf, timeText, wrongOrder } from './compare'

const NOW = Date.UTC(2026, 10, 27, 18, 30)
const day = (date: string): number => Date.parse(`${date}T00:00:00Z`) / 1000
const later = { start_time: day('2026-11-21') }
const of = (text: string) => askedOf(new URLSearchParams(text), later, NOW)

it('compares with as many days before, unless an address says otherwise', () => {
  expect(of('')).toEqual({ ...later, compare_start_time: day('2026-11-14'), compare_end_time: day('2026-11-21') })
  expect(of('than=dates&cfrom=2026-11-01&cto=soon')).toEqual(of(''))
  expect(of('than=dates&cfrom=2026-11-01&cto=2026-11-02')).toEqual({ ...later, compare_start_time: day('2026-11-01'), compare_end_time: day('2026-11-03') })
  const times = 'than=times&since=2026-11-27T10:00:00&until=2026-11-27T11:00&csince=2026-11-27T09:00:00&cuntil=2026-11-27T10:00:00'
  const ten = day('2026-11-27') + 36_000
  expect(of(times)).toEqual({ start_time: ten, end_time: ten + 3600, compare_start_time: ten - 3600, compare_end_time: ten, exact: true })
})

it('writes times and days as the browser has them', () => {
  expect([timeOf('2026-11-27T10:00'), timeOf('2026-11-27'), timeText(day('2026-11-27') + 5)]).toEqual([day('2026-11-27') + 36_000, null, '2026-11-27T00:00:05'])
  expect(datesOf({ start_time: day('2026-11-01'), end_time: day('2026-11-03') })).toEqual({ from: '2026-11-01', to: '2026-11-02' })
})

it('bridges from the one period to the other', () => {
  const change = {
    measure: 'total_cost',
    from: '3.00',
    to: '2.50',
    change: '-0.50',
    parts: { volume: '1.00', mix: '-2.00', efficiency: '0.00', utilisation: '0.25', input_price: '0.25', price: '0.00' },
  } as ComparedChange
  const steps = bridge(change, 'total_cost')
  expect(steps.map(({ name, low, high, sign }) => [name, low, high, sign])).toEqual([
    ['from', 0, 3, 0],
    ['volume', 3, 4, 1],
    ['mix', 2, 4, -1],
    ['efficiency', 2, 2, 0],
    ['utilisation', 2, 2.25, 1],
    ['input_price', 2.25, 2.5, 1],
    ['to', 0, 2.5, 0],
  ])
  expect(bridge(change, 'margin_per_million').map(({ name }) => name)).not.toContain('volume')
})

it('begins with days that can be compared', () => {
  const of = (...days: string[]) => daysToCompare(days, NOW)
  expect(of('2026-10-20', '2026-11-27')).toBe('30')
  // 30 days end on the 27th of November: they begin on the 29th of October.
  expect(of('2026-10-29', '2026-11-27')).toBeNull()
  expect(of('2026-11-15', '2026-11-27')).toBe('7')
  expect(of('2026-11-26', '2026-11-27')).toBe('1')
  expect([of(), of('2026-11-27'), of('2026-10-20')]).toEqual([null, null, null])
})

it('finds the period that ends before it begins, or when it does', () => {
  const asked = { start_time: 200, end_time: 300, compare_start_time: 100, compare_end_time: 200 }
  expect(wrongOrder(asked, 0)).toBeNull()
  expect([wrongOrder({ ...asked, end_time: 200 }, 0), wrongOrder({ ...asked, compare_end_time: 99 }, 0)]).toEqual(['later', 'earlier'])
  const { end_time: _now, ...open } = asked
  expect([wrongOrder(open, 250_000), wrongOrder(open, 150_000)]).toEqual([null, 'later'])
})
