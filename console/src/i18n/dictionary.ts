import { fill, type Fillings } from './fill'
import { locale } from './locale.svelte'

/** A text of a dictionary, in the person's language. */
type Translate<English extends Record<string, string>> = <Key extends keyof English>(
  key: Key,
  ...values: Fillings<English[Key]>
) => string

/**
 * The texts of a page or of a component. The type check fails where Chinese lacks a text or has one too many, and where a
 * gap (`{name}`) is not filled. Read inside markup or `$derived`, a text follows the language.
 */
export function dictionary<const English extends Record<string, string>>(
  en: English,
  zh: Record<keyof English, string>,
): Translate<English> {
  const texts = { en, zh }
  return (key, ...values) => fill(texts[locale.language][key], values[0])
}
