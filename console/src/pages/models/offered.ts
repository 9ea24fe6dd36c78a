import { Doc } from '$lib/api/doc'

export const STATES = ['unloaded', 'loading', 'loaded', 'draining', 'failed'] as const
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
  isPinned: boolean
  contextLen: number | null
  kvBytes: number | null
  running: number | null
  waiting: number | null
  idleSeconds: number | null
  adapters: Adapter[]
}
export interface Memory {
  taken: number | null
  limit: number | null
}

/** The answer of `GET /admin/v1/models`. */
export function offeredOf(document: unknown): { models: Offered[]; memory: Memory } {
  const doc = new Doc(document)
  const memory = doc.doc('memory')
  return { models: doc.list('data').map(modelOf), memory: { taken: memory.number('taken'), limit: memory.number('limit') } }
}

function modelOf(doc: Doc): Offered {
  return {
    ...keptOf(doc),
    aliases: doc.texts('aliases'),
    isPinned: doc.flag('pinned'),
    contextLen: doc.number('context_len'),
    kvBytes: doc.number('kv_bytes'),
    running: doc.number('running'),
    waiting: doc.number('waiting'),
    idleSeconds: doc.number('idle_seconds'),
    adapters: doc.list('adapters').map(keptOf),
  }
}

function keptOf(doc: Doc): Kept {
  const state = STATES.find((one) => one === doc.text('state')) ?? 'unloaded'
  return { name: doc.text('name') ?? '', state, reason: doc.text('reason'), weightBytes: doc.number('weight_bytes') }
}

/** Whether something changes by itself right now, so that one should look again soon. */
export function isMoving(models: readonly Offered[]): boolean {
  const moves = ({ state }: Kept): boolean => state === 'loading' || state === 'draining'
  return models.some((model) => moves(model) || model.adapters.some(moves))
}

export const TONES = { unloaded: 'plain', loading: 'warn', loaded: 'good', draining: 'warn', failed: 'bad' } as const satisfies Record<State, string>
