/** Choices of a person that outlast the page. Nothing secret is ever kept here. */
type Name = 'language' | 'theme'

/** What was kept, if it is one of `choices`; browsers may refuse to keep anything. */
export function kept<T extends string>(name: Name, choices: readonly T[]): T | undefined {
  try {
    const value = localStorage.getItem(`tokenworks.${name}`)
    return choices.find((choice) => choice === value)
  } catch {
    return undefined
  }
}

export function keep(name: Name, value: string): void {
  try {
    localStorage.setItem(`tokenworks.${name}`, value)
  } catch {
    // The choice then ends with the page.
  }
}
