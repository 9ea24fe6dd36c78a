import { ApiError } from './errors'

/** What a page shows of something it asks the API for. */
type Shown<T> =
  | { state: 'loading' }
  | { state: 'ready'; value: T }
  | { state: 'failed'; error: ApiError }

/**
 * Something asked from the API. Make it in a component's script: it is asked again whenever what `ask` reads changes, and what
 * was asked before is given up. While it is asked again the old value stays (`isStale`).
 */
export class Resource<T> {
  shown = $state.raw<Shown<T>>({ state: 'loading' })
  isStale = $state(false)
  #turn = $state(0)

  constructor(ask: (signal: AbortSignal) => Promise<T>) {
    $effect(() => {
      void this.#turn
      const leave = new AbortController()
      this.isStale = true
      ask(leave.signal)
        .then((value) => this.#settle(leave.signal, { state: 'ready', value }))
        .catch((error: unknown) => this.#settle(leave.signal, { state: 'failed', error: asApiError(error) }))
      return () => leave.abort()
    })
  }

  reload(): void {
    this.#turn += 1
  }

  #settle(signal: AbortSignal, shown: Shown<T>): void {
    if (signal.aborted) return
    this.shown = shown
    this.isStale = false
  }
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError({ status: 0, code: null, message: String(error), param: null })
}
