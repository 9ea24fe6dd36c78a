import { call, get, whenShutOut } from './client'
import { ApiError } from './errors'
import type { Scope, Session } from './types'

/** Where sign-in stands. */
export type Standing = 'asking' | 'in' | 'out' | 'unreachable'

class SessionStore {
  standing = $state<Standing>('asking')
  /** Who calls; there is one while `standing` is `in`. */
  who = $state.raw<Session | null>(null)
  /** Why the server lets the caller in no longer, in its words; null where that is plain. */
  reason = $state<string | null>(null)
  /** There was a session, and it ended without being left. */
  hasEnded = $state(false)
  /** Whether the server lets in who shows nothing, where that was asked. */
  isOpen = $state(false)

  constructor() {
    whenShutOut((error) => this.#leave(error))
  }

  /** Asks the server who calls. */
  async ask(): Promise<void> {
    try {
      const who = await get('/v1/session')
      // The cookie is gone: whoever was signed in is let in as somebody else, who may less.
      if (this.who?.by === 'cookie' && who.by !== 'cookie') this.#end()
      else this.#enter(who)
    } catch (error) {
      // A server that answers 403 is there: it shuts this caller out.
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) this.#leave(error)
      else this.standing = 'unreachable'
    }
  }

  /** Exchanges a key for a session. The key is not kept. */
  async signIn(key: string): Promise<void> {
    const hadEnded = this.hasEnded
    try {
      this.#enter(await call('post', '/v1/session', { headers: { authorization: `Bearer ${key}` } }))
    } catch (error) {
      // A wrong key changes nothing for who is in without one, nor for whose session ended.
      if (error instanceof ApiError && error.status === 401) await (hadEnded ? this.#end() : this.ask())
      throw error
    }
  }

  /** Ends the session, if there still is one, and goes on as whoever the server lets in without. */
  async signOut(): Promise<void> {
    await call('delete', '/v1/session')
    this.who = null
    this.hasEnded = false
    await this.ask()
  }

  may(scope: Scope): boolean {
    return this.who?.scopes.includes(scope) ?? false
  }

  #enter(who: Session): void {
    this.who = who
    this.reason = null
    this.hasEnded = false
    this.standing = 'in'
  }

  /** The session is over, and nobody left it. */
  #end(): void {
    this.who = null
    this.reason = null
    this.hasEnded = true
    this.standing = 'out'
    void this.#look()
  }

  /** Finds whether one can go on without a key. */
  async #look(): Promise<void> {
    this.isOpen = await fetch('/v1/session', { credentials: 'omit' }).then(
      (answer) => answer.ok,
      () => false,
    )
  }

  #leave(error: ApiError): void {
    if (error.isSessionEnd) return this.#end()
    this.who = null
    this.hasEnded = false
    this.reason = error.status === 403 ? error.message : null
    this.standing = 'out'
  }
}

export const session = new SessionStore()
