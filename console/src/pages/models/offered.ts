import type { AdministeredAdapter, AdministeredModel } from '$lib/api/types'

const STATES = ['unloaded', 'loading', 'loaded', 'draining', 'failed'] as const
export type State = (typeof STATES)[number]

interface Kept {
  name: string
  state: State
  /** Why it failed. */
  reason: string | null
  weightBytes: number | null
}
export type Adapter = Kept
export interface Offered extends Kept {
  aliases: string[]
  /** Loading it begins with fetching its file. */
  mustFetch: boolean
  /** How far that has come, in bytes; a `total` of `null` is not known yet. */
  fetching: { bytes: number; total: number | null } | null
  isPinned: boolean
  contextLen: number | null
  kvBytes: number | null
  running: number | null
  waiting: number | null
  idleSeconds: number | null
  adapters: Adapter[]
}
export interface Memory {
  taken: number
  limit: number | null
}

/** A model as `GET /admin/v1/models` and the commands on it tell it. */
export function offeredOf(model: AdministeredModel): Offered {
  return {
    ...keptOf(model),
    aliases: model.aliases,
    mustFetch: model.must_fetch,
    fetching: model.fetching,
    isPinned: model.pinned,
    contextLen: model.context_len,
    kvBytes: model.kv_bytes,
    running: model.running,
    waiting: model.waiting,
    idleSeconds: model.idle_seconds,
    adapters: model.adapters.map(keptOf),
  }
}

/** A state that is not known here counts as not in memory. */
function keptOf({ name, state, reason, weight_bytes }: AdministeredAdapter): Kept {
  return { name, state: STATES.find((one) => one === state) ?? 'unloaded', reason, weightBytes: weight_bytes }
}

/** Whether something changes by itself right now, so that one should look again soon. */
export function isMoving(models: readonly Offered[]): boolean {
  const moves = ({ state }: Kept): boolean => state === 'loading' || state === 'draining'
  return models.some((model) => moves(model) || model.adapters.some(moves))
}

export const TONES = { unloaded: 'plain', loading: 'warn', loaded: 'good', draining: 'warn', failed: 'bad' } as const satisfies Record<State, string>
