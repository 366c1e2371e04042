package report

// Results of a check.
const (
	Pass    = "pass"
	Short   = "short"   // a valid row has a worse figure
	Missing = "missing" // no valid row has the figure
	Shown   = "shown"   // a figure without a bound
)

// A Verdict is what a check found of one target.
type Verdict struct {
	Name     string   `json:"name"` // stable, for scripts
	Scenario string   `json:"scenario"`
	Text     string   `json:"text"`   // the target, for people
	Source   string   `json:"source"` // where it was promised
	Bound    string   `json:"bound"`
	Result   string   `json:"result"`
	Aim      bool     `json:"aim,omitempty"` // aimed at beyond the target; decides nothing
	Figure   *float64 `json:"figure"`        // the worst of the rows that count
	Found    string   `json:"found,omitempty"`
	Why      string   `json:"why,omitempty"` // of what is short or missing
}

// Reached tells whether nothing is short or missing, but for aims.
func Reached(list []Verdict) bool {
	for _, v := range list {
		if !v.Aim && (v.Result == Short || v.Result == Missing) {
			return false
		}
	}
	return len(list) > 0
}

// Count is how many verdicts have a result, but for aims.
func Count(list []Verdict, result string) int {
	n := 0
	for _, v := range list {
		if v.Result == result && !v.Aim {
			n++
		}
	}
	return n
}
