import type { Price, Quantities, Tier } from '$lib/api/types'

/** Digits after the point that are kept: nano-units for amounts, six more while tokens are multiplied. */
const DIGITS = 15
const NANO_DIGITS = 9
const PER_MILLION = 1_000_000n

/** Decimal text as an integer of 10^-15; `null`: it is none. */
export function parse(text: string): bigint | null {
  const found = /^(-?)(\d{1,15})(?:\.(\d{1,15}))?$/.exec(text.trim())
  if (!found) return null
  const size = BigInt((found[2] ?? '0') + (found[3] ?? '').padEnd(DIGITS, '0'))
  return found[1] === '-' ? -size : size
}

/** Decimal text of an integer of 10^-15, rounded half-even to nano-units, with two digits at least. */
export function text(value: bigint): string {
  const step = 10n ** BigInt(DIGITS - NANO_DIGITS)
  const size = value < 0n ? -value : value
  const rest = size % step
  let nano = size / step
  if (rest * 2n > step || (rest * 2n === step && nano % 2n === 1n)) nano += 1n
  const digits = nano.toString().padStart(NANO_DIGITS + 1, '0')
  const fraction = digits.slice(-NANO_DIGITS).replace(/0+$/, '').padEnd(2, '0')
  return `${value < 0n && nano > 0n ? '-' : ''}${digits.slice(0, -NANO_DIGITS)}.${fraction}`
}

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

/** What is left of an amount without others, all as decimal text; 0 where one of them is no number. */
export function left(amount: string, ...others: readonly string[]): bigint {
  const [first, ...rest] = [amount, ...others].map(parse)
  return rest.reduce<bigint>((sum, one) => sum - (one ?? 0n), first ?? 0n)
}
