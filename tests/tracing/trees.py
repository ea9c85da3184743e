"""Spans as an indented outline, and by name."""


def finished(exporter, name=None):
    """The spans that ended, by their start; those of one name."""
    spans = sorted(exporter.get_finished_spans(), key=lambda span: (span.start_time, -span.end_time))
    return [span for span in spans if name is None or span.name == name]


def only(exporter, name):
    """The one span of a name."""
    (span,) = finished(exporter, name)
    return span


def outline(exporter):
    """Names by their start, each as many steps in as it has ancestors."""
    spans = finished(exporter)
    parents = {span.context.span_id: span.parent and span.parent.span_id for span in spans}

    def depth(at):
        return 0 if parents.get(at) not in parents else 1 + depth(parents[at])

    return [". " * depth(span.context.span_id) + span.name.removeprefix("ctxshaper.") for span in spans]


def own(span):
    """The attributes of this project."""
    prefix = "ctxshaper."
    return {name.removeprefix(prefix): value for name, value in span.attributes.items() if name.startswith(prefix)}
