import type { Plan, PoolEnd, Price } from '$lib/api/types'
import { KINDS, type Kind } from './exact'

/** The most tokens that a pool may have at the server. */
const MAX_POOL = 2 ** 50
/** The heaviest weight there, in thousandths. */
const MAX_WEIGHT = 1_000_000
/** Digits after the point of a discount in percent, which is kept in thousandths, and of a weight. */
const [PERCENT_DIGITS, WEIGHT_DIGITS] = [1, 3]
export const ENDS = ['overage', 'stop'] as const satisfies readonly PoolEnd[]

/** A plan as it is filled in: all of it text, but for what is chosen. */
export interface PlanForm {
  id: string
  list: string
  /** Percent. */
  discount: string
  /** Tokens; empty: no pool. */
  pool: string
  then: PoolEnd
  weights: Record<Kind, string>
  /** Whether all models with a price in the list are offered; else `models`. */
  isAll: boolean
  models: string[]
}

/** Decimal text of 0 or more as a whole number of 10^-`digits`, exactly; `null`: it is none, or has more digits. */
export function scaled(text: string, digits: number): number | null {
  const found = /^(\d{1,9})(?:\.(\d+))?$/.exec(text.trim())
  const fraction = (found?.[2] ?? '').replace(/0+$/, '')
  return found?.[1] === undefined || fraction.length > digits ? null : Number(found[1] + fraction.padEnd(digits, '0'))
}

/** The decimal text of a whole number of 10^-`digits`. */
export function unscaled(value: number | bigint, digits: number): string {
  const text = String(value).padStart(digits + 1, '0')
  const fraction = text.slice(-digits).replace(/0+$/, '')
  return text.slice(0, -digits) + (fraction === '' ? '' : `.${fraction}`)
}

/** Percent with one digit after the point as thousandths; `null`: it is no discount. */
export function permilleOf(text: string): number | null {
  const found = scaled(text, PERCENT_DIGITS)
  return found !== null && found <= 1000 ? found : null
}

export const percentOf = (permille: number): string => unscaled(permille, PERCENT_DIGITS)

/** A weight in thousandths; `null`: it is none. */
export function weightOf(text: string): number | null {
  const found = scaled(text, WEIGHT_DIGITS)
  return found !== null && found <= MAX_WEIGHT ? found : null
}

export const weightText = (thousandths: number): string => unscaled(thousandths, WEIGHT_DIGITS)

/** Tokens of a pool, `undefined` where the field is empty; `null`: they are no such number. */
export function poolOf(text: string): number | undefined | null {
  const found = text.trim()
  if (found === '') return undefined
  return /^[1-9]\d{0,15}$/.test(found) && Number(found) <= MAX_POOL ? Number(found) : null
}

/** How a plan is filled in; without one, another one on `list`. */
export function formOf(plan: Plan | undefined, list: string): PlanForm {
  const weights = plan?.pool?.weights
  return {
    id: plan?.id ?? '',
    list: plan?.price_list ?? list,
    discount: percentOf(plan?.discount_permille ?? 0),
    pool: plan?.pool ? String(plan.pool.tokens) : '',
    then: plan?.pool?.then ?? 'overage',
    weights: Object.fromEntries(KINDS.map((kind) => [kind, weightText(weights?.[kind] ?? 1000)])) as Record<Kind, string>,
    isAll: plan?.models === undefined,
    models: plan?.models ?? [],
  }
}

/** What is filled in of a plan; call it with what has no fault. */
export function filled(form: PlanForm): Pick<Plan, 'price_list' | 'discount_permille' | 'pool' | 'models'> {
  const tokens = poolOf(form.pool)
  const weights = Object.fromEntries(KINDS.map((kind) => [kind, weightOf(form.weights[kind]) ?? 1000])) as Record<Kind, number>
  return {
    price_list: form.list,
    discount_permille: permilleOf(form.discount) ?? 0,
    ...(tokens ? { pool: { tokens, then: form.then, weights } } : {}),
    ...(form.isAll ? {} : { models: form.models }),
  }
}

/** A plan with what is filled in; what the form does not show stays as it is. */
export function filledIn({ pool: kept, models: _before, ...rest }: Plan, form: PlanForm): Plan {
  const { pool, ...others } = filled(form)
  return { ...rest, ...others, ...(pool ? { pool: { ...kept, ...pool } } : {}) }
}

/** Models with a price in a list, in their order. */
export function modelsIn(prices: readonly Price[], list: string): string[] {
  return [...new Set(prices.filter((price) => price.list === list).map(({ model }) => model))].sort()
}

/** An adapter, `BASE:ADAPTER`, pays its base's price where it has none of its own. */
export const basesOf = (model: string): string[] => (model.includes(':') ? [model, model.slice(0, model.lastIndexOf(':'))] : [model])

/** Those of the chosen models that have no price in the chosen list. */
export function unpriced(form: PlanForm, prices: readonly Price[]): string[] {
  const priced = modelsIn(prices, form.list)
  return form.isAll ? [] : form.models.filter((model) => !basesOf(model).some((one) => priced.includes(one)))
}
