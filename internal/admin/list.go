package admin

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

const (
	defaultPageSize = 100
	maxPageSize     = 500
)

// page is RabbitMQ's envelope around one page of a list.
type page[T any] struct {
	FilteredCount int `json:"filtered_count"`
	ItemCount     int `json:"item_count"`
	Items         []T `json:"items"`
	Page          int `json:"page"`
	PageCount     int `json:"page_count"`
	PageSize      int `json:"page_size"`
	TotalCount    int `json:"total_count"`
}

// writeList answers with the items, each turned into its view. With ?page=N
// (and page_size, name, use_regex) it is one page of those whose name matches,
// in RabbitMQ's envelope; only a page's items are turned into views.
func writeList[T, V any](w http.ResponseWriter, r *http.Request, items []T, name func(*T) string, view func(*T) V) {
	q := r.URL.Query()
	if !q.Has("page") {
		writeJSON(w, views(items, view))
		return
	}
	number, err := positive(q.Get("page"), 1)
	size, sizeErr := positive(q.Get("page_size"), defaultPageSize)
	if err != nil || sizeErr != nil || size > maxPageSize {
		badRequest(w, "page and page_size must be positive integers, page_size at most "+strconv.Itoa(maxPageSize))
		return
	}
	wanted, err := nameFilter(q.Get("name"), q.Get("use_regex") == "true")
	if err != nil {
		badRequest(w, "name is not a regular expression: "+err.Error())
		return
	}
	filtered := make([]T, 0, len(items))
	for i := range items {
		if wanted(name(&items[i])) {
			filtered = append(filtered, items[i])
		}
	}
	pages := max(1, (len(filtered)+size-1)/size)
	if number > pages {
		badRequest(w, "page out of range: there are "+strconv.Itoa(pages))
		return
	}
	first := (number - 1) * size
	shown := filtered[first:min(first+size, len(filtered))]
	writeJSON(w, page[V]{
		FilteredCount: len(filtered), ItemCount: len(shown), Items: views(shown, view),
		Page: number, PageCount: pages, PageSize: size, TotalCount: len(items),
	})
}

// views turns items into their views; never nil, so that an empty list is [].
func views[T, V any](items []T, view func(*T) V) []V {
	out := make([]V, len(items))
	for i := range items {
		out[i] = view(&items[i])
	}
	return out
}

// filter keeps the items that are wanted, in place.
func filter[T any](items []T, wanted func(*T) bool) []T {
	kept := items[:0]
	for i := range items {
		if wanted(&items[i]) {
			kept = append(kept, items[i])
		}
	}
	return kept
}

func positive(s string, otherwise int) (int, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}

func nameFilter(name string, isRegexp bool) (func(string) bool, error) {
	if name == "" {
		return func(string) bool { return true }, nil
	}
	if !isRegexp {
		lower := strings.ToLower(name)
		return func(s string) bool { return strings.Contains(strings.ToLower(s), lower) }, nil
	}
	re, err := regexp.Compile("(?i)" + name)
	if err != nil {
		return nil, err
	}
	return re.MatchString, nil
}
