package admin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	dto "github.com/prometheus/client_model/go"
	"gopkg.in/yaml.v3"
)

// grafanaFolder has the dashboard and the alert rules.
const grafanaFolder = "../../../../scripts/grafana"

func readGrafana(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(grafanaFolder, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// known are the metrics that a daemon has which has worked for a moment.
func known(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	d := newDaemon(t, 1)
	if _, err := d.put(t.Context(), d.transport(t), "report", 1000); err != nil {
		t.Fatal(err)
	}
	a, _ := start(t, d.options())
	eventually(t, "a check of the sink", func() bool { return !a.checker.known().at.IsZero() })
	return gather(t, a.Gatherer())
}

var (
	metricName = regexp.MustCompile(`\b(tailfin|process|go)_[a-z0-9_]+\b`)
	matcher    = regexp.MustCompile(`\{[^{}]*\}`)
	labelName  = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=)`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
	// targetLabels are those that Prometheus adds.
	targetLabels = []string{"instance", "job", "__name__", "le"}
)

// family is the metric that a name in an expression is of.
func family(all map[string]*dto.MetricFamily, name string) *dto.MetricFamily {
	if f := all[name]; f != nil {
		return f
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if f := all[strings.TrimSuffix(name, suffix)]; f != nil && strings.HasSuffix(name, suffix) && f.GetType() == dto.MetricType_HISTOGRAM {
			return f
		}
	}
	return nil
}

// checkExpression has metrics and labels of an expression exist, and its
// brackets closed. It returns the metrics.
func checkExpression(t *testing.T, all map[string]*dto.MetricFamily, where, expr string) []string {
	t.Helper()
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			t.Errorf("%s: unbalanced %s in %s", where, pair, expr)
		}
	}
	var used, labels []string
	for _, name := range metricName.FindAllString(matcher.ReplaceAllString(expr, ""), -1) {
		f := family(all, name)
		if f == nil {
			t.Errorf("%s: there is no metric %s", where, name)
			continue
		}
		used = append(used, f.GetName())
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if rated := regexp.MustCompile(`(rate|increase)\(` + name + `\b`).MatchString(expr); rated && f.GetType() == dto.MetricType_GAUGE {
			t.Errorf("%s: the rate of a gauge, %s", where, name)
		}
	}
	labels = append(labels, targetLabels...)
	var asked []string
	for _, m := range matcher.FindAllString(expr, -1) {
		for _, l := range labelName.FindAllStringSubmatch(m, -1) {
			asked = append(asked, l[1])
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			asked = append(asked, strings.TrimSpace(l))
		}
	}
	for _, l := range asked {
		if !slices.Contains(labels, l) {
			t.Errorf("%s: no metric of %s has the label %s", where, expr, l)
		}
	}
	return used
}

// TestDashboard has the dashboard be one to Grafana, ask for what there is, and
// show all of it.
func TestDashboard(t *testing.T) {
	raw := readGrafana(t, "tailfin.json")
	var d dashboard.Dashboard //nolint:staticcheck // of the schema that every Grafana imports; its successor is for 12 and later
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	var board struct {
		UID        string `json:"uid"`
		Templating struct {
			List []struct {
				Name string `json:"name"`
				Type string `json:"type"`
			} `json:"list"`
		} `json:"templating"`
		Panels []struct {
			ID          int    `json:"id"`
			Type        string `json:"type"`
			Title       string `json:"title"`
			Description string `json:"description"`
			Datasource  struct {
				UID string `json:"uid"`
			} `json:"datasource"`
			GridPos struct{ X, Y, W, H int } `json:"gridPos"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	all := known(t)
	shown := make(map[string]bool)
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the ID %d is of another panel", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies over %q, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s asks %q, %d times", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %s heeds no instance", p.Title, target.Expr)
			}
			for _, name := range checkExpression(t, all, p.Title, target.Expr) {
				shown[name] = true
			}
		}
	}
	for name := range all {
		if strings.HasPrefix(name, ownPrefix) && !strings.HasPrefix(name, limitsPrefix) && !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	var variables []string
	for _, v := range board.Templating.List {
		variables = append(variables, v.Name+":"+v.Type)
	}
	if want := []string{"datasource:datasource", "instance:query"}; !slices.Equal(variables, want) {
		t.Errorf("variables are %v; want %v", variables, want)
	}
}

func TestAlerts(t *testing.T) {
	dec := yaml.NewDecoder(strings.NewReader(string(readGrafana(t, "alerts.yml"))))
	dec.KnownFields(true)
	var rules struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := dec.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	all := known(t)
	used := make(map[string]bool)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			for _, name := range checkExpression(t, all, r.Alert, r.Expr) {
				used[name] = true
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s says too little: %v %v", r.Alert, r.Labels, r.Annotations)
			}
		}
	}
	for _, name := range []string{
		"tailfin_ready", "tailfin_sink_check_ok", "tailfin_udp_kernel_drops_total", "tailfin_drain_timed_out_total",
		"tailfin_certificate_not_after_timestamp_seconds",
	} {
		if !used[name] {
			t.Errorf("nothing alerts of %s", name)
		}
	}
}
