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

  constructor() {
    whenShutOut((error) => this.#leave(error))
  }

  /** Asks the server who calls. */
  async ask(): Promise<void> {
    try {
      this.#enter(await get('/v1/session'))
    } catch (error) {
      // A server that answers 403 is there: it shuts this caller out.
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) this.#leave(error)
      else this.standing = 'unreachable'
    }
  }

  /** Exchanges a key for a session. The key is not kept. */
  async signIn(key: string): Promise<void> {
    try {
      this.#enter(await call('post', '/v1/session', { headers: { authorization: `Bearer ${key}` } }))
    } catch (error) {
      // A wrong key changes nothing for who is in without one.
      if (error instanceof ApiError && error.status === 401) await this.ask()
      throw error
    }
  }

  async signOut(): Promise<void> {
    await call('delete', '/v1/session')
    await this.ask()
  }

  may(scope: Scope): boolean {
    return this.who?.scopes.includes(scope) ?? false
  }

  #enter(who: Session): void {
    this.who = who
    this.reason = null
    this.standing = 'in'
  }

  #leave(error: ApiError): void {
    this.who = null
    this.reason = error.status === 403 ? error.message : null
    this.standing = 'out'
  }
}

export const session = new SessionStore()
