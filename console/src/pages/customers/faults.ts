import { isAmount } from '$lib/api/amounts'
import { isId, isPlain } from '$lib/api/naming'
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

/** What is wrong with the amount of a budget, which may be empty. */
export const budgetFault = (amount: string): Faults => (amount.trim() === '' || isAmount(amount) ? {} : { amount: t('amountWrong') })
