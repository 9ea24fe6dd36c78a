import { isZero } from '$lib/api/amounts'

export const CREDITS = ['prepaid', 'limit', 'unbounded'] as const

/** How a customer's `credit` reads: none is without bound, 0 is prepaid. */
export function creditKind(credit: string | undefined): (typeof CREDITS)[number] {
  if (credit === undefined) return 'unbounded'
  return isZero(credit) ? 'prepaid' : 'limit'
}

/** A time of a field (`2027-01-01T00:00`, UTC) in the API's form; `null`: it is none, or not later than `nowMs`. */
export function laterThan(nowMs: number, text: string): string | null {
  const time = `${text}:00Z`
  return Date.parse(time) > nowMs ? time : null
}

/** Minutes as seconds, 0 to 31 days; `null`: they are none. */
export function graceSeconds(minutes: string): number | null {
  const text = minutes.trim()
  return /^\d{1,5}$/.test(text) && Number(text) <= 44_640 ? Number(text) * 60 : null
}

/** Days for which prompts and answers are kept, 1 to 365; `null`: they are none. */
export function contentDays(days: string): number | null {
  const text = days.trim()
  return /^\d{1,3}$/.test(text) && Number(text) >= 1 && Number(text) <= 365 ? Number(text) : null
}
