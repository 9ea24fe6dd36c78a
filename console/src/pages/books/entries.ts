import type { LedgerEntry } from '$lib/api/types'
import { parse, text } from './exact'

/** Kinds of entries, in the order of the choice. */
export const KINDS = [
  'charge',
  'request_cost',
  'plant_cost',
  'payment',
  'credit_note',
  'outcome',
  'outcome_aside',
  'assignment',
  'document',
  'opened',
  'floor',
  'void',
  'expired',
] as const
export type Kind = (typeof KINDS)[number]
/** What accounts are for. */
export const ACCOUNT_KINDS = ['customer', 'pool', 'budget', 'revenue', 'discount', 'refund', 'rounding', 'idle', 'cost', 'contra', 'value'] as const
export const UNITS = ['money', 'budget', 'value', 'pool_tokens', 'tokens', 'joules', 'outcomes', 'experiment_units'] as const

/** What an entry's postings come to in each unit, exactly: decimal text, `0.00` where they balance. `null`: an amount is no number. */
export function sumsOf(entry: Pick<LedgerEntry, 'legs'>): { unit: string; sum: string | null }[] {
  const sums = new Map<string, bigint | null>()
  for (const { unit, amount } of entry.legs) {
    const [before, more] = [sums.get(unit), parse(amount)]
    sums.set(unit, before === null || more === null ? null : (before ?? 0n) + more)
  }
  return [...sums].map(([unit, sum]) => ({ unit, sum: sum === null ? null : text(sum) }))
}

/** What an entry is about, in a word: the document it put, or the account that it moved first. */
export function subjectOf(entry: LedgerEntry): string {
  if (entry.document) return entry.document.key
  const own = entry.legs.find(({ account }) => account.startsWith('org/')) ?? entry.legs[0]
  return own?.account ?? ''
}
