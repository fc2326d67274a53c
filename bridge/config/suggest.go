package config

import "strings"

// suggest returns the word of known that got was most likely meant to be, or "". Case and "-" for "_" cost nothing; a
// third of the letters may be wrong, three at most.
func suggest(got string, known []string) string {
	if len(got) > maxKey || strings.Trim(got, "0123456789.") == "" {
		return ""
	}
	fold := strings.NewReplacer("-", "_")
	word := fold.Replace(strings.ToLower(got))
	best, least := "", min(len(word)/3, 3)+1
	for _, k := range known {
		if d := distance(word, fold.Replace(strings.ToLower(k))); d < least {
			best, least = k, d
		}
	}
	return best
}

// didYouMean returns "; did you mean X?" or "".
func didYouMean(got string, known []string) string {
	if s := suggest(got, known); s != "" {
		return "; did you mean " + s + "?"
	}
	return ""
}

// distance is the number of letters inserted, deleted, replaced or swapped with their neighbour (optimal string
// alignment) that make a into b.
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
