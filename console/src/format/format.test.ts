import { describe, expect, it } from 'vitest'
import { about, bytes, chance, compact, day, decimal, duration, exact, integer, joules, money, nanoseconds, NONE, percent, power, shortDay } from './format'

const [EN, ZH] = ['en-US', 'zh-CN']

describe('numbers', () => {
  it('has a sign for what is not there', () => {
    for (const format of [integer, decimal, compact, percent, chance, duration, nanoseconds, bytes]) {
      expect(format(null, EN)).toBe(NONE)
      expect(format(undefined, EN)).toBe(NONE)
      expect(format(Number.NaN, EN)).toBe(NONE)
    }
    expect(power(null)).toBe(NONE)
    expect(money(null, 'USD', EN)).toBe(NONE)
  })

  it('shows three digits of what is measured, and all of what is counted', () => {
    expect([0, 0.12345, 12.345, 999.5, 12345.6].map((value) => decimal(value, EN))).toEqual(['0', '0.123', '12.3', '1,000', '12,346'])
    expect(integer(1234567, EN)).toBe('1,234,567')
    expect(compact(12345, EN)).toBe('12.3K')
    expect(compact(12345, ZH)).toBe('1.23万')
    expect(percent(0.4567, EN)).toBe('45.7%')
    expect([0, 1e-9, 0.001, 1].map((value) => chance(value, EN))).toEqual(['0%', '< 0.1%', '0.1%', '100%'])
  })

  it('writes spans in the unit that reads best', () => {
    expect(nanoseconds(2_500_000, EN)).toBe(duration(0.0025, EN))
    expect([0, 0.00085, 0.0123, 1.254, 200, 3600, 18_600].map((value) => duration(value, EN))).toEqual([
      '0 sec', '850 μs', '12.3 ms', '1.25 sec', '3 min 20 sec', '1 hr', '5 hr 10 min',
    ])
    expect(duration(61, ZH)).toBe('1分钟 1秒')
  })

  it('writes power and memory', () => {
    expect([4.567, 999, 1234].map(power)).toEqual(['4.57 W', '999 W', '1.23 kW'])
    expect([512, 1536, 3 * 2 ** 30].map((value) => bytes(value, EN))).toEqual(['512 B', '1.5 KiB', '3 GiB'])
  })
})

describe('money', () => {
  it('keeps what counts of small amounts and cents of large ones', () => {
    const shown = (amount: string): string => money(amount, 'USD', EN)
    expect(['0', '0.000012345', '0.25', '12.3456', '-1234.5'].map(shown)).toEqual(['$0.00', '$0.0000123', '$0.25', '$12.346', '-$1,234.50'])
    expect(money('0.5', 'CNY', ZH)).toBe('¥0.50')
  })

  it('is never rounded through a binary number', () => {
    expect(money('9007199254740993.01', 'USD', EN)).toBe('$9,007,199,254,740,993.01')
  })
})

it('writes days of UTC, energy and measured money', () => {
  expect(day('2026-11-27', 'en-US')).toBe('Nov 27, 2026')
  expect(shortDay(Date.UTC(2026, 10, 27, 23), 'zh-CN')).toBe('11月27日')
  expect([0.12, 2500, 7.2e6].map((value) => joules(value, 'en-US'))).toEqual(['0.12 J', '2.5 kJ', '2 kWh'])
  expect(about(108247.42, 'USD', 'en-US')).toBe('$108,247')
  expect(about(null, 'USD', 'en-US')).toBe(NONE)
})

it('writes exact amounts with all their digits', () => {
  const amounts = ['0.00', '0.000000001', '4.90241', '-1234567.8', '900719925474099.123456789']
  expect(amounts.map((amount) => exact(amount, 'USD', 'en-US'))).toEqual(['$0.00', '$0.000000001', '$4.90241', '-$1,234,567.80', '$900,719,925,474,099.123456789'])
  expect(exact(null, 'USD', 'en-US')).toBe(NONE)
})
