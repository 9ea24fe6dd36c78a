import { expect, it } from 'vitest'
import type { Price } from '$lib/api/types'
import { parse, text } from '$lib/api/amounts'
import { chargeOf, lessDiscount, rateOf, sumOf, versionsOf } from './exact'

it('keeps decimals exact', () => {
  for (const amount of ['0.00', '0.000000001', '12.34', '-0.10', '999999999999.123456789']) expect(text(parse(amount) ?? 0n)).toBe(amount)
  expect(['', 'abc', '1e3', '1.', '.5', '1,5'].map(parse)).toEqual([null, null, null, null, null, null])
  expect(text((parse('0.1') ?? 0n) + (parse('0.2') ?? 0n))).toBe('0.30')
  // Half a nano-unit goes to the even one.
  expect(text(1_500_000n)).toBe('0.000000002')
  expect(text(500_000n)).toBe('0.00')
})

it('charges as the plant does', () => {
  const tokens = { in_uncached: 4, in_cached: 0, out_visible: 16, out_reasoning: 0 }
  const charge = chargeOf(tokens, { input: '10 per 1M', output: '30 per 1M' })
  expect(charge === null ? null : text(charge)).toBe('0.00052')
  expect(chargeOf(tokens, { input: '10 per day', output: '30 per 1M' })).toBeNull()
  const cached = chargeOf({ ...tokens, in_cached: 10 }, { input: '10 per 1M', cached_input: '1 per 1M', output: '30 per 1M' })
  expect(cached === null ? null : text(cached)).toBe('0.00053')
  expect(rateOf('0.50 per 1M')).toBe('0.50')
})

it('adds tokens and takes a discount', () => {
  const tokens = { in_uncached: 1, in_cached: 2, out_visible: 3, out_reasoning: 4 }
  expect(sumOf([tokens, tokens])).toEqual({ in_uncached: 2, in_cached: 4, out_visible: 6, out_reasoning: 8 })
  expect(text(lessDiscount(parse('10.00') ?? 0n, 125))).toBe('8.75')
})

it('knows which version is in force', () => {
  const price = (from: string, model = 'm'): Price => ({ list: 'standard', model, from, tiers: [] })
  const found = versionsOf([price('2026-01-01T00:00:00Z'), price('2026-06-01T00:00:00Z'), price('2027-01-01T00:00:00Z')], Date.parse('2026-11-27T00:00:00Z'))
  expect(found.map(({ version, state }) => [version, state])).toEqual([[3, 'coming'], [2, 'current'], [1, 'past']])
})
