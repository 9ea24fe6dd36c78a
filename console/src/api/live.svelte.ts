import { untrack } from 'svelte'
import { get } from './client'
import { backoff, ratesOf, recall, remember, type Rates } from './history'
import { session } from './session.svelte'
import type { Snapshot } from './types'

/** `lost`: there was a connection, and the figures stand still. */
type LiveState = 'connecting' | 'live' | 'lost'

/** The plant's snapshots, once a second, for all components of the page over one connection. */
class LiveFeed {
  state = $state<LiveState>('connecting')
  snapshot = $state.raw<Snapshot | null>(null)
  history = $state.raw<readonly Rates[]>([])

  #watchers = 0
  #source: EventSource | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #attempt = 0
  /** Whose the history is. */
  #key = ''

  constructor() {
    // A page that nobody looks at costs the plant nothing.
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#close() : this.#open()))
  }

  /** Call it in an effect: `$effect(() => live.watch())`. It gives the end of watching. */
  watch(): () => void {
    this.#watchers += 1
    this.#open()
    return () => {
      this.#watchers -= 1
      if (this.#watchers === 0) this.#close()
    }
  }

  #open(): void {
    if (this.#watchers === 0 || this.#source || document.hidden) return
    clearTimeout(this.#timer)
    // What somebody else saw here is not shown to who signs in next. To watch is no reason to begin anew when the session is asked for.
    const key = untrack(() => session.who?.key ?? '')
    if (this.#key !== key) this.history = []
    this.#key = key
    void this.#recall(key)
    const source = new EventSource('/admin/v1/live')
    source.onmessage = (event: MessageEvent<string>) => {
      const snapshot = JSON.parse(event.data) as Snapshot
      this.#attempt = 0
      this.state = 'live'
      this.snapshot = snapshot
      this.history = remember(this.history, ratesOf(snapshot))
    }
    source.onerror = () => this.#again()
    this.#source = source
  }

  /** Curves have what happened while nobody watched; without it there is a gap. */
  async #recall(key: string): Promise<void> {
    const found = await get('/admin/v1/live/recent').catch(() => null)
    if (found && key === this.#key) this.history = recall(this.history, found.data)
  }

  /** The browser would ask again by itself, at its own pace and not after a refusal. */
  #again(): void {
    this.#close()
    this.state = this.snapshot ? 'lost' : 'connecting'
    this.#timer = setTimeout(() => this.#open(), backoff(this.#attempt))
    this.#attempt += 1
    // If the key has ended, this leads to the sign-in.
    void session.ask()
  }

  #close(): void {
    clearTimeout(this.#timer)
    this.#source?.close()
    this.#source = null
  }
}

export const live = new LiveFeed()
