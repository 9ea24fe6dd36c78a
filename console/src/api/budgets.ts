import { read } from './client'
import type { BudgetStanding } from './types'

/** Most rows of a page. */
const LIMIT = 500

/** What is used of a budget, and where it stands in the answer that told it, for `data-document` and `data-figure`. */
export interface UsedBudget {
  standing: BudgetStanding
  url: string
  name: string
}

/** By level and id. */
export type UsedBudgets = ReadonlyMap<string, UsedBudget>

export const keyOf = ({ level, id }: Pick<BudgetStanding, 'level' | 'id'>): string => `${level}/${id}`

/** What is used of the budgets of a customer, its teams, projects and keys. Those of end users come last, may be any number, and are left. */
export async function budgetsOf(organisation: string, signal?: AbortSignal): Promise<UsedBudgets> {
  const used = new Map<string, UsedBudget>()
  let after: string | null = ''
  while (after !== null && !after.startsWith('end_user/')) {
    const query: { limit: number; after?: string } = { limit: LIMIT, ...(after ? { after } : {}) }
    const { url, document } = await read('/admin/v1/organisations/{id}/budgets', { path: { id: organisation }, query, ...(signal ? { signal } : {}) })
    for (const [index, standing] of document.data.entries()) used.set(keyOf(standing), { standing, url, name: `data.${index}` })
    after = document.next_after
  }
  return used
}

/** Share from which a budget is near its end. */
const NEAR = 0.8

/** How far a budget is used: the share of it (1: all), and how it looks. What is left pays for no token: it counts as all. */
export function useOf({ amount, spent, raised }: Pick<BudgetStanding, 'amount' | 'spent' | 'raised'>): { share: number; tone: 'plain' | 'warn' | 'bad' } {
  const [whole, used] = [Number(amount), Number(spent)]
  const share = whole > 0 ? used / whole : 1
  if (share >= 1 || raised.some((percent) => percent >= 100)) return { share, tone: 'bad' }
  return { share, tone: share >= NEAR ? 'warn' : 'plain' }
}
