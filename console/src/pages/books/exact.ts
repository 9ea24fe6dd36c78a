import { parse } from '$lib/api/amounts'
import type { Price, Quantities, Tier } from '$lib/api/types'

const PER_MILLION = 1_000_000n

/** The number in `0.50 per 1M`; `null`: it is written in another way. */
export function rateOf(rate: string): string | null {
  const found = /^(\S+) per 1M$/.exec(rate)
  return found?.[1] !== undefined && parse(found[1]) !== null ? found[1] : null
}

/** What tokens cost at a tier's rates per 1M; `null`: a rate is no number. */
export function chargeOf(tokens: Quantities, tier: Pick<Tier, 'input' | 'cached_input' | 'output' | 'reasoning'>): bigint | null {
  const of = (rate: string | undefined, count: number): bigint | null => {
    const number = rate === undefined ? null : rateOf(rate)
    const size = number === null ? null : parse(number)
    return size === null ? null : (size * BigInt(Math.trunc(count))) / PER_MILLION
  }
  const parts = [
    of(tier.input, tokens.in_uncached),
    of(tier.cached_input ?? tier.input, tokens.in_cached),
    of(tier.output, tokens.out_visible),
    of(tier.reasoning ?? tier.output, tokens.out_reasoning),
  ]
  return parts.some((part) => part === null) ? null : parts.reduce<bigint>((sum, part) => sum + (part ?? 0n), 0n)
}

/** Tokens of several rows together. */
export function sumOf(rows: readonly Quantities[]): Quantities {
  const sum = { in_uncached: 0, in_cached: 0, out_visible: 0, out_reasoning: 0 }
  for (const row of rows) for (const kind of Object.keys(sum) as (keyof Quantities)[]) sum[kind] += row[kind]
  return sum
}

/** Each version of the price book, with whether it is in force at an instant. */
export function versionsOf(prices: readonly Price[], nowMs: number): { price: Price; version: number; state: 'current' | 'past' | 'coming' }[] {
  const nameOf = (price: Price): string => `${price.list}/${price.model}`
  const lists = [...new Set(prices.map(nameOf))]
  return lists.flatMap((name) => {
    const versions = prices.filter((price) => nameOf(price) === name)
    const begun = versions.filter((price) => Date.parse(price.from) <= nowMs)
    // Of two that begin at the same instant the later one holds.
    const current = begun.reduce<Price | undefined>((best, price) => (best && Date.parse(best.from) > Date.parse(price.from) ? best : price), undefined)
    return versions
      .map((price, index) => {
        const state: 'current' | 'past' | 'coming' = price === current ? 'current' : Date.parse(price.from) > nowMs ? 'coming' : 'past'
        return { price, version: index + 1, state }
      })
      .reverse()
  })
}

/** An amount less a discount in thousandths. */
export function lessDiscount(amount: bigint, permille: number): bigint {
  return (amount * BigInt(1000 - permille)) / 1000n
}
