/** What a plan would have meant for tokens that were used: by sums alone, so where the order of requests counts, as a range. */
import type { Plan, Price, Quantities, Tier, TokenPool } from '$lib/api/types'
import { costAt, KINDS, lessDiscount, METERS, rateFor, versionsOf } from './exact'
import { basesOf, modelsIn, unscaled } from './plan'

/** Pool units in one token of weight 1. */
const UNITS = 1000n
/** Digits after the point of a token, in pool units. */
const POOL_DIGITS = 3

/** What is not known any closer; both are the same where it is known. */
export interface Range {
  least: bigint
  most: bigint
}

/** Tokens of a model. */
export interface Used {
  model: string
  quantities: Quantities
}

export const known = (value: bigint): Range => ({ least: value, most: value })

/** The sum of ranges; `null`: one of them is not known. */
export function sumOfRanges(ranges: readonly (Range | null)[]): Range | null {
  return ranges.reduce<Range | null>((sum, one) => (sum && one ? { least: sum.least + one.least, most: sum.most + one.most } : null), known(0n))
}

/** Pool units that tokens take. */
export function unitsOf(used: readonly Used[], weights: TokenPool['weights']): bigint {
  return used.reduce((sum, { quantities }) => sum + KINDS.reduce((all, kind) => all + BigInt(quantities[METERS[kind]]) * BigInt(weights[kind]), 0n), 0n)
}

const divisor = (a: bigint, b: bigint): bigint => (b === 0n ? a : divisor(b, a % b))

/**
 * Units beyond a pool, had they been used in one window, one request after another. A pool covers whole tokens: less than one
 * token of the heaviest kind may stay in it.
 */
export function beyond(used: readonly Used[], pool: TokenPool): Range {
  const units = unitsOf(used, pool.weights)
  const size = BigInt(pool.tokens) * UNITS
  if (units <= size) return known(0n)
  const weights = KINDS.filter((kind) => used.some(({ quantities }) => quantities[METERS[kind]] > 0)).map((kind) => BigInt(pool.weights[kind])).filter((weight) => weight > 0n)
  const step = weights.reduce(divisor, 0n) || 1n
  const heaviest = weights.reduce((most, one) => (one > most ? one : most), 1n)
  // What is covered is a multiple of the step, and less than the heaviest token below the size.
  const covered = (size / step) * step
  const least = size < heaviest ? 0n : ((size - heaviest) / step + 1n) * step
  return { least: units - covered, most: units - (least > covered ? covered : least) }
}

/** The price in force; `null`: there is none, and requests for the model are refused. */
export function priceIn(prices: readonly Price[], list: string, model: string, nowMs: number): Price | null {
  const current = versionsOf(prices, nowMs).filter(({ price, state }) => state === 'current' && price.list === list && (price.to === undefined || Date.parse(price.to) > nowMs))
  for (const name of basesOf(model)) {
    const found = current.find(({ price }) => price.model === name)
    if (found) return found.price
  }
  return null
}

/** The tier of the price in force; several tiers or no price: `null`. */
export function tierIn(prices: readonly Price[], list: string, model: string, nowMs: number): Tier | null {
  const price = priceIn(prices, list, model, nowMs)
  return price?.tiers.length === 1 ? (price.tiers[0] ?? null) : null
}

type Offer = Pick<Plan, 'price_list' | 'models'>

/** Whether a plan offers a model: its list has a price of it, though perhaps none that is in force. */
export function offers({ price_list, models }: Offer, prices: readonly Price[], model: string): boolean {
  return (models === undefined || models.includes(model)) && basesOf(model).some((name) => modelsIn(prices, price_list).includes(name))
}

/** Of `models` those that a plan answers: it offers them, at a price in force. */
export function served(plan: Offer, prices: readonly Price[], models: readonly string[], nowMs: number): string[] {
  return models.filter((model) => offers(plan, prices, model) && priceIn(prices, plan.price_list, model, nowMs) !== null)
}

/** Of `models` those that were answered before a change and are refused after it for want of a price in force. */
export function unpricedBy(before: Offer, after: Offer, prices: readonly Price[], models: readonly string[], nowMs: number): string[] {
  const still = served(after, prices, models, nowMs)
  return served(before, prices, models, nowMs).filter((model) => offers(after, prices, model) && !still.includes(model))
}

/** Tokens of one kind: how many, what one takes of the pool, and what 1M of them cost. */
interface Lot {
  count: bigint
  weight: bigint
  rate: bigint
}

function lotsOf(used: readonly Used[], weights: TokenPool['weights'] | undefined, tierOf: (model: string) => Tier | null): Lot[] | null {
  const lots: Lot[] = []
  for (const { model, quantities } of used) {
    for (const kind of KINDS) {
      const count = BigInt(quantities[METERS[kind]])
      if (count === 0n) continue
      const tier = tierOf(model)
      const rate = tier === null ? null : rateFor(tier, kind)
      if (rate === null) return null
      lots.push({ count, rate, weight: BigInt(weights?.[kind] ?? 1000) })
    }
  }
  return lots
}

/** What `units` of lots cost at list price where those lie beyond that come first in `order`. */
function costOf(lots: readonly Lot[], units: bigint, order: 1 | -1): bigint {
  const dearness = (a: Lot, b: Lot): number => Number(a.rate * b.weight > b.rate * a.weight) - Number(a.rate * b.weight < b.rate * a.weight)
  let [left, cost] = [units, 0n]
  for (const lot of lots.filter(({ weight }) => weight > 0n).sort((a, b) => order * dearness(a, b))) {
    const taken = left < lot.count * lot.weight ? left : lot.count * lot.weight
    cost += costAt(lot.rate, taken) / lot.weight
    left -= taken
  }
  return cost
}

/**
 * What one customer would have paid for tokens of one window, as integers of 10^-15: list price of what lies beyond the pool,
 * less the discount. `null`: a model's price is not known, or has several tiers.
 */
export function chargeUnder(used: readonly Used[], plan: Pick<Plan, 'pool' | 'discount_permille'>, tierOf: (model: string) => Tier | null): Range | null {
  // Such a plan never charges money.
  if (plan.pool?.then === 'stop') return known(0n)
  if (plan.pool && beyond(used, plan.pool).most === 0n) return known(0n)
  const lots = lotsOf(used, plan.pool?.weights, tierOf)
  if (lots === null) return null
  const less = (amount: bigint): bigint => lessDiscount(amount, plan.discount_permille)
  if (!plan.pool) return known(less(lots.reduce((sum, { count, rate }) => sum + costAt(rate, count), 0n)))
  const { least, most } = beyond(used, plan.pool)
  return { least: less(costOf(lots, least, 1)), most: less(costOf(lots, most, -1)) }
}

/** Whether two plans have the same pool, so that what was booked beyond it stays as it is. */
export function isSamePool(a: TokenPool | undefined, b: TokenPool | undefined): boolean {
  if (!a || !b) return a === b
  return a.tokens === b.tokens && a.then === b.then && KINDS.every((kind) => a.weights[kind] === b.weights[kind])
}

/** Pool units as tokens of weight 1, in decimal text. */
export function poolText(units: bigint): string {
  const size = units < 0n ? -units : units
  return (units < 0n ? '-' : '') + unscaled(size, POOL_DIGITS)
}

/**
 * Units left in the present month once a pool has another size: what was taken stays taken. `null`: there is no pool then, or it
 * is not known what was taken: without a pool before nothing tells.
 */
export function leftAfter(before: TokenPool | undefined, after: TokenPool | undefined, left: number | null | undefined): bigint | null {
  if (!before || !after || typeof left !== 'number') return null
  return BigInt(left) + (BigInt(after.tokens) - BigInt(before.tokens)) * UNITS
}
