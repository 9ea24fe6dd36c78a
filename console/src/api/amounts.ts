/** Decimal text of 0 or more with at most nine digits after the point, as amounts are kept. */
export function isAmount(text: string): boolean {
  return /^\d{1,9}(\.\d{1,9})?$/.test(text.trim())
}

/** Whether decimal text is 0. */
export const isZero = (text: string): boolean => !/[1-9]/.test(text)

/** What was paid, or paid out: an amount of either sign that is not 0. */
export function isPayment(text: string): boolean {
  return isAmount(text.trim().replace(/^-/, '')) && !isZero(text)
}

/** A reference that nobody used before, for a payment or credit note that has none of its own. */
export function newReference(): string {
  // `randomUUID` is there on secure pages only.
  const random = crypto.getRandomValues(new Uint8Array(8))
  return `console-${[...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`
}
