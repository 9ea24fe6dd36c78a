/**
 * Reads a document of a route that openapi.json describes in words only. Nothing is taken on trust: a field that is missing or of
 * another kind is `null` or empty.
 */
export class Doc {
  readonly #fields: Record<string, unknown>

  constructor(value: unknown) {
    this.#fields = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  }

  text(name: string): string | null {
    const value = this.#fields[name]
    return typeof value === 'string' ? value : null
  }

  number(name: string): number | null {
    const value = this.#fields[name]
    return typeof value === 'number' ? value : null
  }

  flag(name: string): boolean {
    return this.#fields[name] === true
  }

  doc(name: string): Doc {
    return new Doc(this.#fields[name])
  }

  list(name: string): Doc[] {
    return this.#array(name).map((value) => new Doc(value))
  }

  texts(name: string): string[] {
    return this.#array(name).filter((value) => typeof value === 'string')
  }

  #array(name: string): unknown[] {
    const value = this.#fields[name]
    return Array.isArray(value) ? value : []
  }
}
