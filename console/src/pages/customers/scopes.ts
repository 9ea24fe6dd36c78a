import type { Scope } from '$lib/api/types'

export const SCOPES: readonly Scope[] = ['inference', 'usage', 'manage', 'plant']

/** What a key gets of which nothing else is said. */
export const DEFAULT_SCOPES: readonly Scope[] = ['inference', 'usage']

/** What a caller may give a key: what it has itself, and everything where it administers the plant. */
export function grantable(own: readonly string[]): readonly Scope[] {
  return own.includes('plant') ? SCOPES : SCOPES.filter((scope) => own.includes(scope))
}
