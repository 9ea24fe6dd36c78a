/** Decimal text of 0 or more with at most nine digits after the point, as amounts are kept. */
export function isAmount(text: string): boolean {
  return /^\d{1,9}(\.\d{1,9})?$/.test(text.trim())
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
