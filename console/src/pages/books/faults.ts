import type { Price } from '$lib/api/types'
import { KINDS } from './exact'
import { permilleOf, poolOf, unpriced, weightOf, type PlanForm } from './plan'
import { tierFaults, type TierForm } from './tiers'
import { t } from './texts.prices'

/** What is wrong with a plan that is filled in, before it is sent; by the API's names of fields. */
export function planFaults(form: PlanForm, prices: readonly Price[]): Record<string, string> {
  const missing = unpriced(form, prices)
  const weights = poolOf(form.pool) === undefined ? [] : KINDS.filter((kind) => weightOf(form.weights[kind]) === null)
  return {
    ...(form.list === '' ? { price_list: t('listMissing') } : {}),
    ...(permilleOf(form.discount) === null ? { discount_permille: t('discountWrong') } : {}),
    ...(poolOf(form.pool) === null ? { pool: t('poolWrong') } : {}),
    ...Object.fromEntries(weights.map((kind) => [`pool.weights.${kind}`, t('weightWrong')])),
    ...(!form.isAll && form.models.length === 0 ? { models: t('modelsNone') } : {}),
    ...(missing.length > 0 ? { models: t('modelsUnpriced', { list: form.list, models: missing.join(', ') }) } : {}),
  }
}

/** The field of the form that a refusal's parameter means. */
export function planField(param: string): string | undefined {
  const weight = KINDS.find((kind) => param === `pool.weights.${kind}`)
  if (weight) return `pool.weights.${weight}`
  return ['id', 'price_list', 'discount_permille', 'pool', 'models'].find((name) => name === param.split(/[.[]/)[0])
}

/** What is wrong with the tiers of a price, before they are sent; by the API's names of fields. */
export function rateFaults(tiers: readonly TierForm[]): Record<string, string> {
  return Object.fromEntries(Object.entries(tierFaults(tiers)).map(([name, fault]) => [name, t(`wrong.${fault}`)]))
}
