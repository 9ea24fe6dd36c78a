import { left, text } from '$lib/api/amounts'
import type { Quantities, UsageRow } from '$lib/api/types'
import { dateOf } from '$lib/components/span'
import { sumOf } from './exact'

export const GROUPS = ['model', 'team', 'project', 'key', 'tag', 'day'] as const
/** More bars than these say no more; the table has them all. */
export const MOST_BARS = 12
export type Group = (typeof GROUPS)[number]

/** What was used by one of a group. */
export interface Used {
  name: string
  requests: number
  tokens: Quantities
  /** Tokens that the plan's pool paid. */
  pooled: number
  /** What is to be paid, as decimal text: list price less discount and credit notes. */
  charged: string
}

/** Rows by hour as sums by group, the dearest first; days in their order. Amounts are added exactly. */
export function usedBy(group: Group, rows: readonly UsageRow[]): Used[] {
  const nameOf = (row: UsageRow): string => (group === 'day' ? dateOf(Math.floor(row.from_ms / 1000)) : row[group])
  const groups = new Map<string, UsageRow[]>()
  for (const row of rows) {
    const own = groups.get(nameOf(row))
    if (own) own.push(row)
    else groups.set(nameOf(row), [row])
  }
  const used = [...groups].map(([name, own]) => ({ ...sumsOf(own), name }))
  return used.sort(group === 'day' ? (a, b) => a.name.localeCompare(b.name) : (a, b) => Number(b.charged) - Number(a.charged))
}

/** All of them together. */
export function sumsOf(rows: readonly UsageRow[]): Omit<Used, 'name'> {
  const charged = rows.reduce((sum, { sums }) => sum + left(sums.list, sums.discount, sums.credited), 0n)
  const add = (of: (row: UsageRow) => number): number => rows.reduce((sum, row) => sum + of(row), 0)
  return {
    requests: add(({ sums }) => sums.requests),
    tokens: sumOf(rows.map(({ sums }) => sums.quantities)),
    pooled: add(({ sums }) => sums.pooled_tokens),
    charged: text(charged),
  }
}
