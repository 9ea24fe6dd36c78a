/** The most tokens that a pool may have at the server. */
const MAX_POOL = 2 ** 50

/** A discount in thousandths; `null`: it is none. */
export function permilleOf(text: string): number | null {
  const found = text.trim()
  return /^\d{1,4}$/.test(found) && Number(found) <= 1000 ? Number(found) : null
}

/** Tokens of a pool, `undefined` where the field is empty; `null`: they are no such number. */
export function poolOf(text: string): number | undefined | null {
  const found = text.trim()
  if (found === '') return undefined
  return /^[1-9]\d{0,15}$/.test(found) && Number(found) <= MAX_POOL ? Number(found) : null
}
