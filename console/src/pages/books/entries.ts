import type { LedgerEntry } from '$lib/api/types'
import { openPeriod, secondOf, type Period } from '$lib/components/span'
import { parse, text } from '$lib/api/amounts'

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

/** Which entries an address asks for; what it does not say is empty. */
export interface EntryFilters {
  kind: Kind | undefined
  account: string
  request: string
  /** Days of UTC. */
  from: string
  to: string
}

export function filtersOf(query: URLSearchParams): EntryFilters {
  const day = (name: string): string => {
    const text = query.get(name) ?? ''
    return secondOf(text) === null ? '' : text
  }
  return {
    kind: KINDS.find((one) => one === query.get('kind')),
    account: query.get('account') ?? '',
    request: query.get('request') ?? '',
    from: day('from'),
    to: day('to'),
  }
}

/** What the API takes of it. All of a request comes at once: nothing else goes with it. */
export interface AskedEntries extends Partial<Required<Period>> {
  request?: string
  limit?: number
  kind?: Kind
  account?: string
}

export function askedEntries({ kind, account, request, from, to }: EntryFilters, limit: number): AskedEntries {
  return request ? { request } : { limit, ...(kind ? { kind } : {}), ...(account ? { account } : {}), ...openPeriod(from, to) }
}

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
