package rounds

// Figures are what is made of a run, by the names that they have in a row's JSON.
type Figures[R any] map[string]func(R) float64

// Samples are a contestant's figures, one value a round, in the order of rounds; nil
// without a run.
func (r *Results[R]) Samples(of string, figures Figures[R]) map[string][]float64 {
	runs := r.Runs[of]
	if len(runs) == 0 {
		return nil
	}
	samples := make(map[string][]float64, len(figures))
	for name, figure := range figures {
		for _, run := range runs {
			samples[name] = append(samples[name], figure(run))
		}
	}
	return samples
}
