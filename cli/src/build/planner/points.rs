//! `# stratafs: prepare=POINT` above a `FROM`: the image goes on from there.

use stratafs::runner::freeze::Point;

use crate::recipe::{Position, Problem, Recipe, Remark, RemarkKind};

/// Finds the point of the stage that is built.
pub(super) fn of(recipe: &Recipe, target: usize) -> Result<Option<(Point, Position)>, Problem> {
    let mut found = None;
    for remark in &recipe.remarks {
        if remark.kind != RemarkKind::Prepare {
            continue;
        }
        let stage = recipe
            .stages
            .iter()
            .position(|stage| stage.at.line == remark.about);
        let point = point(remark)?;
        match stage {
            None => {
                return Err(Problem::new(
                    remark.at,
                    "# stratafs: prepare stands above no FROM: write it on the line before the FROM of the stage whose image is to go on from there",
                ));
            }
            Some(stage) if stage == target && found.is_some() => {
                return Err(Problem::new(
                    remark.at,
                    "# stratafs: prepare is given twice for one stage: leave one out",
                ));
            }
            Some(stage) if stage == target => found = Some((point, remark.at)),
            Some(_) => {}
        }
    }
    Ok(found)
}

fn point(remark: &Remark) -> Result<Point, Problem> {
    let point = remark.value.parse::<Point>();
    point.map_err(|why| {
        let value = &remark.value;
        Problem::new(
            remark.at,
            format_args!("# stratafs: prepare={value}: {why}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    #[test]
    fn a_point_belongs_to_the_stage_below_it() {
        let told = |recipe: &str, target| {
            let found = of(&parse(recipe).unwrap(), target);
            let found = found.map(|found| found.map(|(point, at)| (point.to_string(), at.line)));
            found.map_err(|problem| problem.to_string())
        };
        let two = "# stratafs: prepare=stdin\nFROM a AS x\n# a word\n# stratafs: prepare=path:/x\n\nFROM b\n";
        assert_eq!(told(two, 0), Ok(Some(("stdin".into(), 1))));
        assert_eq!(told(two, 1), Ok(Some(("path:/x".into(), 4))));
        assert_eq!(told("FROM a\n", 0), Ok(None));
        for (recipe, part) in [
            (
                "FROM a\n# stratafs: prepare=stdin\nCMD [\"x\"]\n",
                "line 2, column 1: # stratafs: prepare stands above no FROM",
            ),
            (
                "# stratafs: prepare=soon\nFROM a\n",
                "line 1, column 1: # stratafs: prepare=soon: expected stdin",
            ),
            (
                "# stratafs: prepare=stdin\n# stratafs: prepare=stdin\nFROM a\n",
                "line 2, column 1",
            ),
        ] {
            let why = told(recipe, 0).unwrap_err();
            assert!(why.starts_with(part), "{why}");
        }
    }
}
