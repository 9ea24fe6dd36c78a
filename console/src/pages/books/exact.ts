import { parse } from '$lib/api/amounts'
import type { Price, Quantities, Tier } from '$lib/api/types'

const PER_MILLION = 1_000_000n
/** Kinds of tokens by the words that rates and weights have for them, in the plant's order. */
export const KINDS = ['input', 'cached_input', 'output', 'reasoning'] as const
export type Kind = (typeof KINDS)[number]
/** What counts the tokens of each. */
export const METERS = { input: 'in_uncached', cached_input: 'in_cached', output: 'out_visible', reasoning: 'out_reasoning' } as const satisfies Record<Kind, keyof Quantities>

/** The number in `0.50 per 1M`; `null`: it is written in another way. */
export function rateOf(rate: string): string | null {
  const found = /^(\S+) per 1M$/.exec(rate)
  return found?.[1] !== undefined && parse(found[1]) !== null ? found[1] : null
}

type Rates = Pick<Tier, Kind>

/** What 1M tokens of a kind cost, as an integer of 10^-15: without a rate of their own as input or output; `null`: it is no number. */
export function rateFor(tier: Rates, kind: Kind): bigint | null {
  const rate = tier[kind] ?? (kind === 'cached_input' ? tier.input : tier.output)
  const number = rateOf(rate)
  return number === null ? null : parse(number)
}

/** What `count` tokens cost at a rate per 1M. */
export const costAt = (rate: bigint, count: bigint): bigint => (rate * count) / PER_MILLION

/** What tokens cost at a tier's rates per 1M; `null`: a rate is no number. */
export function chargeOf(tokens: Quantities, tier: Rates): bigint | null {
  return KINDS.reduce<bigint | null>((sum, kind) => {
    const rate = rateFor(tier, kind)
    return sum === null || rate === null ? null : sum + costAt(rate, BigInt(Math.trunc(tokens[METERS[kind]])))
  }, 0n)
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
