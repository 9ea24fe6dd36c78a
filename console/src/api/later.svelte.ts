import { t } from '$lib/i18n/shared'
import { toasts } from '$lib/store/toasts.svelte'

/** The pages of a list that come after its first one, asked for one by one. */
export class Later<P> {
  pages = $state.raw<readonly P[]>([])
  isBusy = $state(false)

  /** Takes one more; where it fails that is told, and what is there stays. */
  async more(page: Promise<P>): Promise<void> {
    const before = this.pages
    this.isBusy = true
    try {
      const found = await page
      // Of another list by now: its first page was asked for anew.
      if (this.pages === before) this.pages = [...before, found]
    } catch {
      toasts.bad(t('failed'))
    } finally {
      this.isBusy = false
    }
  }

  /** The first page is asked for anew. */
  clear(): void {
    this.pages = []
  }
}
