export const PARTS = ['tokens', 'merges', 'next'] as const

/** Whether an address leads to a part of the token lab. */
export function isLabPart(rest: string): boolean {
  return PARTS.some((part) => part === rest)
}
