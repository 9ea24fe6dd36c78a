import { askCost, type Cost } from '$lib/api/cost'
import { ApiError } from '$lib/api/errors'
import { stream } from '$lib/api/events'
import { session } from '$lib/api/session.svelte'
import { BLANK, fold, hasText, type Answer, type Frame, type Times } from './answer'
import { ROUTES } from './samples'
import { bodyOf, FRESH, type Body, type Faults, type Mode, type Settings, type Turn } from './settings'

/** Most turns kept of a side; older ones leave the page (and the prompt). */
const MOST_TURNS = 100

type RunState = 'waiting' | 'streaming' | 'done' | 'stopped' | 'failed'
/** `none`: this caller may not know it, or there is none. */
type CostState = 'none' | 'asking' | 'known' | 'unknown'

/** One request and its answer. */
export class Run {
  readonly prompt: string
  readonly mode: Mode
  readonly body: Body
  state = $state<RunState>('waiting')
  answer = $state.raw<Answer>(BLANK)
  times = $state.raw<Times>({ begun: 0, first: null, ended: null })
  error = $state.raw<ApiError | null>(null)
  cost = $state.raw<Cost | null>(null)
  costState = $state<CostState>('none')
  /** The candidate that is looked at, and that a chat goes on with. */
  picked = $state(0)
  #leave = new AbortController()

  constructor(mode: Mode, prompt: string, body: Body) {
    this.mode = mode
    this.prompt = prompt
    this.body = body
  }

  get isOpen(): boolean {
    return this.state === 'waiting' || this.state === 'streaming'
  }

  async begin(): Promise<void> {
    this.times = { begun: performance.now(), first: null, ended: null }
    try {
      for await (const frame of stream<Frame>(ROUTES[this.mode], this.body, this.#leave.signal)) this.#take(frame)
      this.state = 'done'
    } catch (cause) {
      this.error = this.#leave.signal.aborted ? null : asApiError(cause)
      this.state = this.error ? 'failed' : 'stopped'
    }
    this.times = { ...this.times, ended: performance.now() }
    if (this.answer.id !== '' && session.may('plant') && session.who?.has_books) void this.#askCost()
  }

  stop(): void {
    this.#leave.abort()
  }

  #take(frame: Frame): void {
    if (this.times.first === null && hasText(frame)) {
      this.times = { ...this.times, first: performance.now() }
      this.state = 'streaming'
    }
    this.answer = fold(this.answer, frame)
  }

  async #askCost(): Promise<void> {
    this.costState = 'asking'
    this.cost = await askCost(this.answer.id)
    this.costState = this.cost ? 'known' : 'unknown'
  }
}

/** A model with its settings, and what it answered. */
export class Side {
  settings = $state<Settings>({ ...FRESH })
  runs = $state.raw<readonly Run[]>([])
  faults = $state.raw<Faults>({})

  get last(): Run | undefined {
    return this.runs.at(-1)
  }

  get isBusy(): boolean {
    return this.last?.isOpen ?? false
  }

  /** What would be asked with this prompt. */
  request(mode: Mode, prompt: string): { body: Body; faults: Faults } {
    const before = mode === 'chat' ? this.runs.filter((run) => run.state === 'done' || run.state === 'stopped').flatMap(turnsOf) : []
    return bodyOf(mode, this.settings, [...before, { role: 'user', content: prompt }])
  }

  /** Checks the settings; whether they can be sent. */
  check(mode: Mode): boolean {
    this.faults = this.request(mode, '').faults
    return Object.keys(this.faults).length === 0
  }

  /** Asks, and tells whether an answer came. */
  async send(mode: Mode, prompt: string): Promise<boolean> {
    const run = new Run(mode, prompt, this.request(mode, prompt).body)
    this.runs = mode === 'chat' ? [...this.runs, run].slice(-MOST_TURNS) : [run]
    await run.begin()
    return run.state !== 'failed'
  }

  stop(): void {
    this.last?.stop()
  }

  clear(): void {
    this.stop()
    this.runs = []
  }
}

function turnsOf(run: Run): Turn[] {
  const content = run.answer.candidates[run.picked]?.text ?? ''
  return content === '' ? [] : [{ role: 'user', content: run.prompt }, { role: 'assistant', content }]
}

/** What stands on the bench, kept while a person looks at other pages. */
class Bench {
  mode = $state<Mode>('chat')
  isCompared = $state(false)
  draft = $state('')
  readonly left = new Side()
  readonly right = new Side()
  readonly sides = $derived(this.isCompared ? [this.left, this.right] : [this.left])
  readonly isBusy = $derived(this.sides.some((side) => side.isBusy))
  #owner: string | null | undefined

  /** Another caller finds an empty bench. */
  openFor(owner: string | null): void {
    if (this.#owner !== undefined && this.#owner !== owner) {
      this.clear()
      this.draft = ''
      for (const side of [this.left, this.right]) side.settings = { ...FRESH }
    }
    this.#owner = owner
  }

  choose(mode: Mode): void {
    this.clear()
    this.mode = mode
  }

  compare(isCompared: boolean): void {
    this.isCompared = isCompared
    this.right.clear()
    if (isCompared) this.right.settings = { ...this.left.settings }
  }

  /** Asks all sides, if each can be asked. */
  send(): boolean {
    const prompt = this.draft
    const ready = this.sides.map((side) => side.check(this.mode))
    if (prompt.trim() === '' || this.isBusy || ready.includes(false)) return false
    const sent = this.sides.map((side) => side.send(this.mode, prompt))
    if (this.mode === 'chat') void this.#empty(prompt, sent)
    return true
  }

  /** What nobody answered comes back, to be sent again. */
  async #empty(prompt: string, sent: Promise<boolean>[]): Promise<void> {
    this.draft = ''
    const answered = await Promise.all(sent)
    if (!answered.includes(true) && this.draft === '') this.draft = prompt
  }

  stop(): void {
    for (const side of [this.left, this.right]) side.stop()
  }

  clear(): void {
    for (const side of [this.left, this.right]) side.clear()
  }
}

function asApiError(cause: unknown): ApiError {
  return cause instanceof ApiError ? cause : new ApiError({ status: 0, code: null, message: String(cause), param: null })
}

export const bench = new Bench()
