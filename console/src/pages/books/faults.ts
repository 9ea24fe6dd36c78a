import { permilleOf, poolOf } from './plan'
import { t } from './texts'

/** What is wrong with the discount and the pool of a plan, before they are sent. */
export function planFaults(discount: string, pool: string): Record<string, string> {
  return {
    ...(permilleOf(discount) === null ? { discount_permille: t('discountWrong') } : {}),
    ...(poolOf(pool) === null ? { pool: t('poolWrong') } : {}),
  }
}
