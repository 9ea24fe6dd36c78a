import { describe, expect, it } from 'vitest'
import { text } from '$lib/api/amounts'
import type { Price, Quantities, Tier, TokenPool } from '$lib/api/types'
import { beyond, chargeUnder, isSamePool, leftAfter, offers, poolText, priceIn, served, sumOfRanges, tierIn, unitsOf, unpricedBy, type Range } from './effect'

const EVEN = { input: 1000, cached_input: 1000, output: 1000, reasoning: 1000 }
const TIER: Tier = { prompt_from: 0, volume_from: 0, input: '10 per 1M', output: '30 per 1M' }
const pool = (tokens: number, weights = EVEN, then: TokenPool['then'] = 'overage'): TokenPool => ({ tokens, weights, then })
const used = (in_uncached: number, out_visible: number, in_cached = 0, out_reasoning = 0) => [{ model: 'm', quantities: { in_uncached, in_cached, out_visible, out_reasoning } }]
const written = (range: Range | null): string[] | null => range && [range.least, range.most].map(text)

/** The plant's own rule (`Weights::cover`), request by request. */
function covered(requests: readonly Quantities[], { tokens, weights }: TokenPool): Quantities[] {
  let left = tokens * 1000
  return requests.map((request) => {
    let here = left
    const beyondIt = { ...request }
    for (const [meter, kind] of [['in_uncached', 'input'], ['in_cached', 'cached_input'], ['out_visible', 'output'], ['out_reasoning', 'reasoning']] as const) {
      const weight = weights[kind]
      const taken = weight === 0 ? request[meter] : Math.min(request[meter], Math.floor(here / weight))
      beyondIt[meter] = request[meter] - taken
      left -= taken * weight
      here = taken < request[meter] ? 0 : here - taken * weight
    }
    return beyondIt
  })
}

describe('beyond a pool', () => {
  it('weighs tokens', () => {
    const weights = { input: 1000, cached_input: 100, output: 3000, reasoning: 0 }
    expect(unitsOf(used(2, 3, 5, 7), weights)).toBe(11_500n)
    expect(beyond(used(2, 3, 5, 7), pool(12, weights))).toEqual({ least: 0n, most: 0n })
  })

  it('is exact where all tokens weigh the same, else less than one token of the heaviest kind away', () => {
    expect(beyond(used(60, 60), pool(100))).toEqual({ least: 20_000n, most: 20_000n })
    const { least, most } = beyond(used(60, 60), pool(100, { ...EVEN, output: 3000 }))
    expect([least, most]).toEqual([140_000n, 142_000n])
    // Two weights of 1500 each: 66 of them are covered, whatever comes first.
    expect(beyond(used(60, 60), pool(100, { ...EVEN, input: 1500, output: 1500 }))).toEqual({ least: 81_000n, most: 81_000n })
    expect(beyond(used(5, 5), pool(2, { ...EVEN, input: 3000, output: 3000 }))).toEqual({ least: 30_000n, most: 30_000n })
  })
})

describe('what would have been charged', () => {
  const charge = (tokens: ReturnType<typeof used>, own: TokenPool | undefined, discount_permille = 0) => written(chargeUnder(tokens, { ...(own ? { pool: own } : {}), discount_permille }, () => TIER))

  it('is exact without a pool, within it, and where it stops at its end', () => {
    expect(charge(used(1_000_000, 1_000_000), undefined)).toEqual(['40.00', '40.00'])
    expect(charge(used(1_000_000, 1_000_000), undefined, 125)).toEqual(['35.00', '35.00'])
    expect(charge(used(1_000_000, 1_000_000), pool(2_000_000))).toEqual(['0.00', '0.00'])
    expect(charge(used(1_000_000, 1_000_000), pool(1, EVEN, 'stop'))).toEqual(['0.00', '0.00'])
    expect(charge(used(1_000_000, 0), pool(400_000))).toEqual(['6.00', '6.00'])
  })

  it('is a range where it depends on which tokens came last', () => {
    expect(charge(used(1_000_000, 1_000_000), pool(1_000_000))).toEqual(['10.00', '30.00'])
    expect(charge(used(1_000_000, 500_000), pool(500_000), 500)).toEqual(['5.00', '10.00'])
    // Tokens of weight 0 are never beyond.
    expect(charge(used(1_000_000, 1_000_000), pool(500_000, { ...EVEN, output: 0 }))).toEqual(['5.00', '5.00'])
  })

  it('holds what the plant charges, whatever the order of requests', () => {
    let seed = 7
    const next = (most: number): number => (seed = (seed * 48_271) % 2_147_483_647) % most
    for (let round = 0; round < 300; round += 1) {
      const requests = Array.from({ length: 1 + next(6) }, () => ({ in_uncached: next(50), in_cached: next(20), out_visible: next(60), out_reasoning: next(10) }))
      const weights = { input: 500 + next(4) * 500, cached_input: next(3) * 100, output: next(5) * 1000, reasoning: next(3) * 700 }
      const own = pool(next(300), weights)
      const all = requests.map((quantities) => ({ model: 'm', quantities }))
      const rests = covered(requests, own)
      const units = unitsOf(rests.map((quantities) => ({ model: 'm', quantities })), weights)
      const { least, most } = beyond(all, own)
      expect(least <= units && units <= most, `${least} ${units} ${most}`).toBe(true)
      const paid = rests.reduce((sum, one) => sum + BigInt(one.in_uncached + one.in_cached) * 10n + BigInt(one.out_visible + one.out_reasoning) * 30n, 0n) * 10n ** 9n
      const range = chargeUnder(all, { pool: own, discount_permille: 0 }, () => TIER)
      expect(range !== null && range.least <= paid && paid <= range.most, `${range?.least} ${paid} ${range?.most}`).toBe(true)
    }
  })

  it('is not told without a price', () => {
    expect(chargeUnder(used(1, 0), { discount_permille: 0 }, () => null)).toBeNull()
    expect(sumOfRanges([{ least: 1n, most: 2n }, { least: 1n, most: 1n }])).toEqual({ least: 2n, most: 3n })
    expect(sumOfRanges([{ least: 1n, most: 2n }, null])).toBeNull()
  })
})

it('finds the price in force, of an adapter its base’s', () => {
  const price = (model: string, from: string, tiers: Tier[] = [TIER]): Price => ({ list: 'standard', model, from, tiers })
  const prices = [price('m', '2026-01-01T00:00:00Z'), price('m', '2026-06-01T00:00:00Z', [{ ...TIER, input: '12 per 1M' }]), price('n', '2026-01-01T00:00:00Z', [TIER, { ...TIER, volume_from: 9 }]), price('late', '2027-01-01T00:00:00Z')]
  const at = (model: string): string | undefined => tierIn(prices, 'standard', model, Date.parse('2026-11-28T00:00:00Z'))?.input
  expect(['m', 'm:a', 'n', 'late', 'x'].map(at)).toEqual(['12 per 1M', '12 per 1M', undefined, undefined, undefined])
  expect(tierIn(prices, 'gold', 'm', Date.parse('2026-11-28T00:00:00Z'))).toBeNull()
})

it('finds what a change cuts off for want of a price in force, apart from several tiers', () => {
  const nowMs = Date.parse('2026-11-28T00:00:00Z')
  const price = (list: string, model: string, from: string, more: Partial<Price> = {}): Price => ({ list, model, from, tiers: [TIER], ...more })
  const prices = [
    ...['m', 'n', 'o', 'p'].map((model) => price('standard', model, '2026-01-01T00:00:00Z')),
    price('next', 'm', '2027-01-01T00:00:00Z'),
    price('next', 'n', '2026-01-01T00:00:00Z', { tiers: [TIER, { ...TIER, volume_from: 9 }] }),
    price('next', 'o', '2026-01-01T00:00:00Z', { to: '2026-02-01T00:00:00Z' }),
  ]
  const models = ['m', 'm:a', 'n', 'o', 'p', 'x']
  const [before, after] = [{ price_list: 'standard' }, { price_list: 'next' }]
  expect(unpricedBy(before, after, prices, models, nowMs)).toEqual(['m', 'm:a', 'o'])
  expect(served(after, prices, models, nowMs)).toEqual(['n'])
  expect(priceIn(prices, 'next', 'n', nowMs)?.tiers).toHaveLength(2)
  expect([offers(after, prices, 'm'), offers(after, prices, 'p'), offers({ ...after, models: ['n'] }, prices, 'm')]).toEqual([true, false, false])
  // What is refused before as well is not cut off by the change; nor does anything change without one.
  expect(unpricedBy(after, { ...after, models: ['m'] }, prices, models, nowMs)).toEqual([])
  expect(unpricedBy(before, before, prices, models, nowMs)).toEqual([])
})

it('knows the same pool', () => {
  expect(isSamePool(pool(1), pool(1)) && isSamePool(undefined, undefined)).toBe(true)
  expect([pool(2), pool(1, EVEN, 'stop'), pool(1, { ...EVEN, reasoning: 0 }), undefined].map((other) => isSamePool(pool(1), other))).toEqual([false, false, false, false])
})

it('leaves what was taken of a pool taken', () => {
  expect(leftAfter(pool(100), pool(150), 30_500)).toBe(80_500n)
  expect(leftAfter(pool(100), pool(10), 30_500)).toBe(-59_500n)
  expect([leftAfter(undefined, pool(10), null), leftAfter(pool(10), undefined, 5), leftAfter(pool(10), pool(20), undefined)]).toEqual([null, null, null])
  expect(poolText(1_125_899_906_842_624_001n)).toBe('1125899906842624.001')
  expect([80_500n, -59_500n, 0n, 1_000n, 5n].map(poolText)).toEqual(['80.5', '-59.5', '0', '1', '0.005'])
})
