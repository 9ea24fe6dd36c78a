import type { Scope } from '$lib/api/types'

export const PARTS = ['income', 'comparison', 'usage', 'invoices', 'prices', 'planner', 'ledger', 'audit', 'alerts'] as const
export type Part = (typeof PARTS)[number]

/** What a caller may see of the books: the plant's owner all, others their invoices, and the log of what they administer. */
export function partsFor(may: (scope: Scope) => boolean): Part[] {
  if (may('plant')) return [...PARTS]
  return PARTS.filter((part) => (part === 'invoices' && may('usage')) || (part === 'audit' && may('manage')))
}

/** Where in the books an address leads: `invoices/acme/2026-11-01`. What one may not see leads to the first part. */
export function placeOf(rest: string, parts: readonly Part[]): { part: Part; organisation: string; label: string } {
  const [name = '', organisation = '', label = ''] = rest.split('/')
  const part = parts.find((one) => one === name) ?? parts[0] ?? 'invoices'
  return { part, organisation, label }
}
