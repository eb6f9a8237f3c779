"""A plan as a page of text."""

from typing import Any

GIB, GB = 2**30, 1e9


def page(found: dict[str, Any], config: str) -> str:
    """What `rbs plan` prints of what `plan` found."""
    chip = found["chip"]
    lines = [
        f"{config} on {found['topology']}: {found['chips']} chips of {chip['memory'] / GB:.0f} GB, "
        f"{chip['usable'] / GIB:.2f} GiB of it for a program",
        f"published: {chip['flops'] / 1e12:.0f} TFLOP/s in bfloat16, memory "
        f"{chip['bandwidth'] / GB:.0f} GB/s, network {chip['network'] / GB:.0f} GB/s each way "
        f"({chip['source']})",
        *found["notes"],
        "",
        *_table([_row(entry, chip["usable"]) for entry in found["candidates"]]),
        "",
    ]
    if (unseen := found["meshes_not_looked_at"]) > 0:
        lines.append(f"{unseen} more meshes divide this config; --meshes looks at more")
    best = next(
        (entry for entry in found["candidates"] if entry["settings"] == found["recommended"]), None
    )
    lines += ["no: it does not fit"] if best is None else _details(best, found)
    return "\n".join(lines)


HEADER = (
    *(
        "data x fsdp x tensor",
        "grids",
        "remat",
        "tile",
        "fits",
        "GiB",
        "TFLOP",
        "moved GB",
        "sent GB",
    ),
    *("compute s", "memory s", "network s", "limit", "blocks/s"),
)


def _row(entry: dict[str, Any], usable: float) -> tuple[str, ...]:
    chosen = entry["settings"]
    mesh = " x ".join(str(chosen[f"mesh.{axis}"]) for axis in ("data", "fsdp", "tensor"))
    tile = " x ".join(str(value) for name, value in chosen.items() if name.startswith("tile."))
    begin = mesh, str(chosen["grid.grids_per_step"]), chosen["model.remat"], tile
    if not entry["fits"]:
        needed = "?" if entry["needed"] is None else f"{entry['needed'] / GIB:.2f}"
        return (*begin, "no", f"{needed} of {usable / GIB:.2f}", *[""] * 8)
    bounds, sent = entry["bounds"], entry["collectives"].values()
    return (
        *(*begin, "yes", f"{entry['memory']['peak'] / GIB:.2f} of {usable / GIB:.2f}"),
        f"{entry['flops'] / 1e12:.4g}",
        f"{entry['memory_bytes'] / GB:.4g}",
        f"{sum(traffic['bytes'] for traffic in sent) / GB:.4g}",
        *(f"{bounds[name]:.3g}" for name in ("compute", "memory")),
        f"{max(bounds['network'], bounds['network between slices']):.3g}",
        *(entry["limit"], f"{entry['blocks_per_second']:.4g}"),
    )


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    cells = [HEADER, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _details(best: dict[str, Any], found: dict[str, Any]) -> list[str]:
    mfu = best["useful_flops"] / best["step_seconds_at_least"] / found["chip"]["flops"]
    held = ", ".join(f"{name} {size / GIB:.3f}" for name, size in best["memory"].items())
    lines = [
        "yes: it fits with "
        + " ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in best["settings"].items()
        ),
        f"  a chip holds [GiB]: {held}",
        *(
            f"  {kind}: {traffic['times']} times a step, each chip sends "
            f"{traffic['bytes'] / GB:.4g} GB"
            for kind, traffic in best["collectives"].items()
        ),
        f"  a step takes at least {best['step_seconds_at_least']:.3g} s, by its {best['limit']}; "
        f"of its TFLOP {best['useful_flops'] / 1e12:.4g} are useful, so mfu is at most {mfu:.2f}",
    ]
    if best["step_seconds_estimate"] is not None:
        lines.append(
            f"  an estimate at a utilisation of {found['utilisation']}: "
            f"{best['step_seconds_estimate']:.3g} s"
        )
    if best["kernels_without_flops"]:
        lines.append(
            f"  {best['kernels_without_flops']} runs of kernels that say no operations are not "
            "among the TFLOP"
        )
    if best["loops_of_unknown_length"]:
        lines.append(
            f"  {len(best['loops_of_unknown_length'])} loops of unknown length are counted once"
        )
    if best["copied_whole"]:
        lines.append(
            f"  {len(best['copied_whole'])} arrays are copied whole to every chip, at first: "
            f"{best['copied_whole'][0]}"
        )
    return lines
