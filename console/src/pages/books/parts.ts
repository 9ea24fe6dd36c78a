import type { Scope } from '$lib/api/types'

export const PARTS = ['income', 'comparison', 'usage', 'invoices', 'prices', 'planner', 'ledger', 'audit', 'alerts'] as const
export type Part = (typeof PARTS)[number]

/** What a caller may see of the books: the plant's owner all, others their usage and invoices, and the log of what they administer. */
export function partsFor(may: (scope: Scope) => boolean): Part[] {
  if (may('plant')) return [...PARTS]
  return PARTS.filter((part) => ((part === 'usage' || part === 'invoices') && may('usage')) || (part === 'audit' && may('manage')))
}

/** Whether an address leads into the books: only invoices have places below them. */
export function isBooksPlace(rest: string): boolean {
  const [part, ...names] = rest.split('/')
  return PARTS.some((one) => one === part) && names.length <= (part === 'invoices' ? 2 : 0)
}

/** Where in the books an address leads: `invoices/acme/2026-11-01`, or to the first part that one may see. `null`: one may not see it. */
export function placeOf(rest: string, parts: readonly Part[]): { part: Part | null; organisation: string; label: string } {
  const [name = '', organisation = '', label = ''] = rest.split('/')
  const part = (name === '' ? parts[0] : parts.find((one) => one === name)) ?? null
  return { part, organisation, label }
}
