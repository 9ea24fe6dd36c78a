import type { NextTokenRequest } from '$lib/api/types'
import { DEFAULTS, settingsOf, type Setting } from './settings'

/** A token that was added to the answer by hand. */
export interface Added {
  id: number
  text: string
}

/** What the text is to the model. */
export type Kind = 'text' | 'chat'

const START = 'In 2024 a café in 东京 (Tokyo) poured unbelievable darkness into'

/** What stands on the table: kept while other pages are looked at, and empty for another caller. */
class Lab {
  text = $state(START)
  /** Of the parts that look at one model; empty until the list is there. */
  model = $state('')
  kind = $state<Kind>('text')
  settings = $state({ ...DEFAULTS })
  answer = $state.raw<readonly Added[]>([])
  #owner: string | null | undefined

  openFor(owner: string | null): void {
    if (this.#owner !== undefined && this.#owner !== owner) {
      Object.assign(this, { text: START, model: '', kind: 'text', settings: { ...DEFAULTS }, answer: [] })
    }
    this.#owner = owner
  }

  /** Another model's ids mean other tokens. */
  choose(model: string): void {
    if (model !== this.model) this.answer = []
    this.model = model
  }

  add(token: Added): void {
    this.answer = [...this.answer, token]
  }

  takeBack(): void {
    this.answer = this.answer.slice(0, -1)
  }

  set(name: Setting, value: number): void {
    this.settings = { ...this.settings, [name]: value }
  }

  /** The request for the distribution behind what stands here. */
  get request(): NextTokenRequest {
    const prompt = this.kind === 'chat' ? { messages: [{ role: 'user', content: this.text }] } : { prompt: this.text }
    return { model: this.model, ...prompt, answer_tokens: this.answer.map(({ id }) => id), ...settingsOf(this.settings) }
  }
}

export const lab = new Lab()
