import { isAmount } from '$lib/api/amounts'
import { isId, isPlain } from '$lib/api/naming'
import { percents, type BudgetForm } from './bounds'
import { t } from './texts'

type Faults = Record<string, string>

/** The name that stands where none was given: the id. */
export const nameOf = (name: string, id: string): string => name.trim() || id.trim()

/** What is wrong with an id and a name, before they are sent. */
export function namingFaults(id: string, name: string): Faults {
  return {
    ...(isId(id) ? {} : { id: id.trim() === '' ? t('idMissing') : t('idWrong') }),
    ...(name.trim() === '' || isPlain(name) ? {} : { name: t('nameWrong') }),
  }
}

/** What is wrong with a budget; nothing, where there is none. */
export function budgetFaults({ amount, alerts }: BudgetForm): Faults {
  if (amount.trim() === '') return {}
  return { ...(isAmount(amount) ? {} : { amount: t('amountWrong') }), ...(percents(alerts) ? {} : { alerts: t('alertsWrong') }) }
}
